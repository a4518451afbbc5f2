export { instructionSets } from "./addon.js";
export { defaultBackend } from "./default-backend.js";
export { addressOffset, loadNativeBackend, type NativeBackendOptions } from "./native-backend.js";
export { nodePacker } from "./packer.js";
