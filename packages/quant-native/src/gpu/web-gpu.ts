/**
 * The part of WebGPU that is used here, by its shape: what browsers have as `navigator.gpu`, and npm `webgpu` in Node,
 * fits without either's types.
 */
export interface GpuBuffer {
  readonly size: number;
  readonly usage: number;
  mapAsync(mode: number, offset?: number, size?: number): Promise<undefined>;
  getMappedRange(offset?: number, size?: number): ArrayBuffer;
  unmap(): undefined;
  destroy(): undefined;
}

export interface GpuLimits {
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  readonly minStorageBufferOffsetAlignment: number;
}

export interface GpuError {
  readonly message: string;
}

export interface GpuLoss {
  readonly reason: string;
  readonly message: string;
}

export interface GpuAdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
}

interface GpuBinding {
  binding: number;
  /** `{ buffer, offset, size }`. */
  resource: object;
}

export interface GpuPipeline {
  readonly label: string;
}
export interface GpuBindGroup {
  readonly label: string;
}
export interface GpuBindGroupLayout {
  readonly label: string;
}
interface GpuPipelineLayout {
  readonly label: string;
}
interface GpuShaderModule {
  readonly label: string;
}
interface GpuCommands {
  readonly label: string;
}

interface GpuPass {
  setPipeline(pipeline: GpuPipeline): undefined;
  setBindGroup(index: number, group: GpuBindGroup | null | undefined): undefined;
  dispatchWorkgroups(x: number): undefined;
  end(): undefined;
}

export interface GpuEncoder {
  clearBuffer(buffer: GpuBuffer, offset?: number, size?: number): undefined;
  copyBufferToBuffer(
    source: GpuBuffer,
    sourceOffset: number,
    target: GpuBuffer,
    targetOffset: number,
    size: number,
  ): undefined;
  beginComputePass(): GpuPass;
  finish(): GpuCommands;
}

interface GpuQueue {
  submit(commands: Iterable<GpuCommands>): undefined;
  writeBuffer(
    buffer: GpuBuffer,
    offset: number,
    data: Uint8Array<ArrayBuffer> | Uint32Array<ArrayBuffer>,
    dataOffset?: number,
    size?: number,
  ): undefined;
  onSubmittedWorkDone(): Promise<undefined>;
}

type GpuErrorFilter = "validation" | "out-of-memory" | "internal";

/** A `GPUDevice`. */
export interface GpuDevice {
  readonly limits: GpuLimits;
  readonly queue: GpuQueue;
  readonly lost: Promise<GpuLoss>;
  readonly adapterInfo?: GpuAdapterInfo;
  createBuffer(descriptor: {
    label?: string;
    size: number;
    usage: number;
    mappedAtCreation?: boolean;
  }): GpuBuffer;
  createShaderModule(descriptor: { label?: string; code: string }): GpuShaderModule;
  createBindGroupLayout(descriptor: {
    label?: string;
    entries: Iterable<{
      binding: number;
      visibility: number;
      buffer: { type: "uniform" | "storage" | "read-only-storage" };
    }>;
  }): GpuBindGroupLayout;
  createPipelineLayout(descriptor: {
    bindGroupLayouts: Iterable<GpuBindGroupLayout | null | undefined>;
  }): GpuPipelineLayout;
  createComputePipelineAsync(descriptor: {
    label?: string;
    layout: GpuPipelineLayout | "auto";
    compute: { module: GpuShaderModule; entryPoint?: string };
  }): Promise<GpuPipeline>;
  createBindGroup(descriptor: { layout: GpuBindGroupLayout; entries: Iterable<GpuBinding> }): GpuBindGroup;
  createCommandEncoder(descriptor?: { label?: string }): GpuEncoder;
  pushErrorScope(filter: GpuErrorFilter): undefined;
  popErrorScope(): Promise<GpuError | null>;
  destroy(): undefined;
}

/** `GPUBufferUsage`, `GPUMapMode` and `GPUShaderStage`, which Node has no globals of. */
export const USAGE = {
  MAP_READ: 0x1,
  MAP_WRITE: 0x2,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
} as const;
export const MAP_READ = 1;
export const MAP_WRITE = 2;
export const COMPUTE_STAGE = 4;
