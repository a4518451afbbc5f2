import { TensorwireError } from "@tensorwire/core";
import { type Kernel, kernelName, kernelSource } from "./kernel.js";
import {
  COMPUTE_STAGE,
  type GpuBindGroupLayout,
  type GpuBuffer,
  type GpuDevice,
  type GpuEncoder,
  type GpuError,
  type GpuLoss,
  type GpuPipeline,
  USAGE,
} from "./web-gpu.js";
import { LEVEL_TABLES } from "./wgsl/level-tables.js";

/** A run of a buffer's bytes, as a kernel sees it. */
export interface Binding {
  readonly buffer: GpuBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** One kernel over so many workgroups. */
export interface Step {
  readonly pipeline: GpuPipeline;
  readonly workgroups: number;
}

/** Kernels on a device: compiled once, and started one after the other. */
export class Dispatcher {
  readonly #layout: GpuBindGroupLayout;
  readonly #tables: GpuBuffer;
  readonly #pipelines = new Map<string, Promise<GpuPipeline>>();
  #loss: GpuLoss | undefined;

  /** @param reciprocalError for tests: see `reciprocalOf`. */
  constructor(
    readonly device: GpuDevice,
    private readonly reciprocalError: number,
  ) {
    void device.lost.then((loss) => {
      this.#loss = loss;
    });
    const types = ["uniform", "read-only-storage", "storage", "read-only-storage"] as const;
    this.#layout = device.createBindGroupLayout({
      label: "tensorwire",
      entries: types.map((type, binding) => ({ binding, visibility: COMPUTE_STAGE, buffer: { type } })),
    });
    this.#tables = device.createBuffer({
      label: "tensorwire tables",
      size: LEVEL_TABLES.byteLength,
      usage: USAGE.STORAGE | USAGE.COPY_DST,
    });
    device.queue.writeBuffer(this.#tables, 0, LEVEL_TABLES);
  }

  /** @throws TensorwireError `DEVICE_LOST` where there is no device to run on any more. */
  refuseLost(): void {
    if (this.#loss !== undefined) throw lossError(this.#loss);
  }

  /** @throws TensorwireError `DEVICE_LOST`, `DEVICE_FAILED` where the device does not take the shader. */
  pipeline(kernel: Kernel): Promise<GpuPipeline> {
    const name = kernelName(kernel);
    let pipeline = this.#pipelines.get(name);
    if (pipeline === undefined) {
      pipeline = this.#compile(kernel, name);
      this.#pipelines.set(name, pipeline);
    }
    return pipeline;
  }

  async #compile(kernel: Kernel, name: string): Promise<GpuPipeline> {
    const { device } = this;
    try {
      const compiled = this.guarded(() => {
        const module = device.createShaderModule({
          label: name,
          code: kernelSource(kernel, this.reciprocalError),
        });
        const layout = device.createPipelineLayout({ bindGroupLayouts: [this.#layout] });
        return device.createComputePipelineAsync({
          label: name,
          layout,
          compute: { module, entryPoint: "main" },
        });
      });
      return await compiled;
    } catch (error) {
      throw await this.fault(error, `the shader "${name}" was not accepted`);
    }
  }

  /** Puts kernels into `encoder`; each sees what the one before it has written. */
  run(
    encoder: GpuEncoder,
    steps: readonly Step[],
    parameters: GpuBuffer,
    source: Binding,
    target: Binding,
  ): void {
    const bound = [
      { buffer: parameters },
      { buffer: source.buffer, offset: source.offset, size: source.bytes },
      { buffer: target.buffer, offset: target.offset, size: target.bytes },
      { buffer: this.#tables },
    ];
    const group = this.device.createBindGroup({
      layout: this.#layout,
      entries: bound.map((resource, binding) => ({ binding, resource })),
    });
    const pass = encoder.beginComputePass();
    pass.setBindGroup(0, group);
    for (const { pipeline, workgroups } of steps) {
      pass.setPipeline(pipeline);
      pass.dispatchWorkgroups(workgroups);
    }
    pass.end();
  }

  /**
   * What `work` begins, once the device has said that nothing is wrong with it: a fault that nobody asks for would leave
   * what was in its buffers before.
   * @throws whatever `work` rejects with, or the device's complaint.
   */
  async guarded<T>(work: () => T | Promise<T>): Promise<T> {
    const { device } = this;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("internal");
    let begun: Promise<T>;
    try {
      begun = Promise.resolve(work());
    } catch (error) {
      begun = Promise.reject(error);
    }
    // In this turn: no other job's calls come between.
    const scopes = [device.popErrorScope(), device.popErrorScope(), device.popErrorScope()];
    const [result, ...complaints] = await Promise.allSettled([begun, ...scopes]);
    for (const [i, complaint] of complaints.entries()) {
      if (complaint.status === "rejected" || complaint.value === null) continue;
      throw new DeviceComplaint(complaint.value, i === 1);
    }
    if (result.status === "rejected") throw result.reason;
    return result.value;
  }

  /**
   * Resolves when the device has done what was submitted. One that is lost is done too, and says so by nothing else:
   * neither its error scopes nor its queue complain.
   * @throws TensorwireError `DEVICE_LOST`.
   */
  async done(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    this.refuseLost();
  }

  /** What went wrong on the device, as an error of ours. */
  async fault(error: unknown, what: string): Promise<TensorwireError> {
    if (error instanceof TensorwireError) return error;
    // A device that goes away fails what is under way first, and says so after that.
    await new Promise((resolve) => setTimeout(resolve));
    if (this.#loss !== undefined) return lossError(this.#loss);
    const reason = error instanceof Error ? error.message : String(error);
    const advice =
      error instanceof DeviceComplaint && error.outOfMemory
        ? "free buffers on it, or make chunks smaller"
        : "use the CPU (backend: cpu), or look at the driver";
    return new TensorwireError("DEVICE_FAILED", `the device: ${what}: ${reason}: ${advice}`, {
      cause: error,
    });
  }

  close(): void {
    this.#tables.destroy();
  }
}

/** What an error scope caught. */
class DeviceComplaint extends Error {
  constructor(
    { message }: GpuError,
    readonly outOfMemory: boolean,
  ) {
    super(message);
  }
}

function lossError({ reason, message }: GpuLoss): TensorwireError {
  const why = reason === "destroyed" ? "it was destroyed" : message || reason;
  return new TensorwireError(
    "DEVICE_LOST",
    `the device is lost (${why}), and with it what its buffers held: open another one, and fill its buffers again`,
  );
}
