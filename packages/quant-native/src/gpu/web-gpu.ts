// The part of WebGPU that is used here, by its shape: what browsers have as `navigator.gpu`, and npm `webgpu` in Node, fits
// without either's types.

/** A `GPUBuffer`. */
export interface GpuBuffer {
  /** In bytes. */
  readonly size: number;
  /** Bits of `GPUBufferUsage`. */
  readonly usage: number;
  /** Waits until the host may have a part of it: `mode` is a bit of `GPUMapMode`, `offset` and `size` are in bytes. */
  mapAsync(mode: number, offset?: number, size?: number): Promise<undefined>;
  /** Bytes that were mapped, until `unmap`. */
  getMappedRange(offset?: number, size?: number): ArrayBuffer;
  /** Gives it back to the device. */
  unmap(): undefined;
  /** Frees its memory. */
  destroy(): undefined;
}

/** Those of a device's `GPUSupportedLimits` that decide which chunks it can take. */
export interface GpuLimits {
  /** The largest buffer, in bytes. */
  readonly maxBufferSize: number;
  /** The most bytes of a buffer that a kernel may be given. */
  readonly maxStorageBufferBindingSize: number;
  /** The most workgroups of one dispatch. */
  readonly maxComputeWorkgroupsPerDimension: number;
  /** What the places of tensors in a buffer have to be multiples of, in bytes, for kernels to work on them there. */
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

/** A `GPUDevice`, of a browser or of Dawn. */
export interface GpuDevice {
  /** What it was made with. */
  readonly limits: GpuLimits;
  /** Where its work is handed in. */
  readonly queue: GpuQueue;
  /** Resolves when it is lost: destroyed, or taken away. */
  readonly lost: Promise<GpuLoss>;
  /** Whose it is; names of backends have its architecture. */
  readonly adapterInfo?: GpuAdapterInfo;
  /** Takes memory of the device: `size` is in bytes, `usage` bits of `GPUBufferUsage`. */
  createBuffer(descriptor: {
    label?: string;
    size: number;
    usage: number;
    mappedAtCreation?: boolean;
  }): GpuBuffer;
  /** Reads a kernel in WGSL. */
  createShaderModule(descriptor: { label?: string; code: string }): GpuShaderModule;
  /** Says which buffers a kernel is given. */
  createBindGroupLayout(descriptor: {
    label?: string;
    entries: Iterable<{
      binding: number;
      visibility: number;
      buffer: { type: "uniform" | "storage" | "read-only-storage" };
    }>;
  }): GpuBindGroupLayout;
  /** The same of all of a pipeline's groups. */
  createPipelineLayout(descriptor: {
    bindGroupLayouts: Iterable<GpuBindGroupLayout | null | undefined>;
  }): GpuPipelineLayout;
  /** Compiles a kernel. */
  createComputePipelineAsync(descriptor: {
    label?: string;
    layout: GpuPipelineLayout | "auto";
    compute: { module: GpuShaderModule; entryPoint?: string };
  }): Promise<GpuPipeline>;
  /** Buffers for a run of a kernel. */
  createBindGroup(descriptor: { layout: GpuBindGroupLayout; entries: Iterable<GpuBinding> }): GpuBindGroup;
  /** Begins a list of commands. */
  createCommandEncoder(descriptor?: { label?: string }): GpuEncoder;
  /** From here on errors of this kind are kept for `popErrorScope`. */
  pushErrorScope(filter: GpuErrorFilter): undefined;
  /** The first error since, or `null`. */
  popErrorScope(): Promise<GpuError | null>;
  /** Frees all that it has. */
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
