import type { Gpu, GpuBuffer, GpuDevice } from "../../src/gpu/index.js";

// Checked by the compiler alone: what browsers have, and npm webgpu, fits the shapes that are asked for.
export const device = (given: GPUDevice): GpuDevice => given;
export const buffer = (given: GPUBuffer): GpuBuffer => given;
export const gpu = (given: GPU): Gpu => given;
/** And what is given back is a `GPUBuffer`, wherever one is asked for, by its own type. */
export const back = (given: GpuBuffer): GPUBuffer => given as GPUBuffer;
