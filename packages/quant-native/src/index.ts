/**
 * The codecs as native kernels, behind the backend contract of `@tensorwire/core`, and which backend and zstd run here.
 *
 * @module @tensorwire/quant-native
 */
export { instructionSets } from "./addon.js";
export { defaultBackend } from "./default-backend.js";
export { addressOffset, loadNativeBackend, type NativeBackendOptions } from "./native-backend.js";
export { nodePacker } from "./packer.js";
