export { GpuBackend, type GpuTraffic } from "./gpu-backend.js";
export { GPU_CODECS, gpuCodecs, type GpuCodecsOptions } from "./gpu-codecs.js";
export { type Gpu, openGpuDevice, type OpenGpuDevice, type OpenGpuDeviceOptions } from "./open-device.js";
export type { GpuBuffer, GpuDevice, GpuLimits } from "./web-gpu.js";
