import { TensorwireError } from "@tensorwire/core";
import type { GpuDevice, GpuLimits } from "./web-gpu.js";

interface GpuAdapter {
  readonly limits: GpuLimits;
  requestDevice(descriptor: { requiredLimits: Record<string, number> }): Promise<GpuDevice>;
}

/** A `GPU`, as `navigator.gpu` is one. */
export interface Gpu {
  requestAdapter(options?: {
    powerPreference?: "high-performance" | "low-power";
  }): Promise<GpuAdapter | null>;
}

export interface OpenGpuDeviceOptions {
  /** Default: `navigator.gpu` where there is one, else npm `webgpu` (Dawn), which is loaded for that. */
  readonly gpu?: Gpu | undefined;
  /** Flags of Dawn's own, where npm `webgpu` is loaded: `["adapter=NAME"]`. */
  readonly flags?: readonly string[] | undefined;
}

/** A device, and what keeps it alive. */
export interface OpenGpuDevice {
  readonly device: GpuDevice;
  /** Destroys the device, and lets the process end. */
  close(): void;
}

/**
 * Opens a GPU, with buffers as large as it allows. Dawn keeps a process alive, and aborts it where nothing holds on to
 * what made the device: keep what this returns, and close it.
 * @throws TensorwireError `DEVICE_UNAVAILABLE`.
 * @example
 * // not run: needs a GPU
 * const { device, close } = await openGpuDevice();
 */
export async function openGpuDevice(options: OpenGpuDeviceOptions = {}): Promise<OpenGpuDevice> {
  let gpu: Gpu | undefined = options.gpu ?? browserGpu() ?? (await dawn(options.flags ?? []));
  let adapter: GpuAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    throw unavailable("looking for an adapter failed", error);
  }
  if (adapter === null)
    throw unavailable("there is no adapter: no GPU that WebGPU can use, or no driver for it");
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  let device: GpuDevice;
  try {
    device = await adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
  } catch (error) {
    throw unavailable("the adapter gives no device", error);
  }
  return {
    device,
    close() {
      if (gpu === undefined) return;
      device.destroy();
      gpu = undefined;
    },
  };
}

function browserGpu(): Gpu | undefined {
  return (globalThis as { navigator?: { gpu?: Gpu } }).navigator?.gpu;
}

async function dawn(flags: readonly string[]): Promise<Gpu> {
  try {
    const { create } = (await import("webgpu")) as unknown as { create(flags: readonly string[]): Gpu };
    return create(flags);
  } catch (error) {
    throw unavailable(
      "there is no navigator.gpu, and npm webgpu cannot be loaded (npm install webgpu)",
      error,
    );
  }
}

function unavailable(what: string, cause?: unknown): TensorwireError {
  const reason = cause instanceof Error ? `: ${cause.message}` : "";
  return new TensorwireError("DEVICE_UNAVAILABLE", `no GPU: ${what}${reason}`, { cause });
}
