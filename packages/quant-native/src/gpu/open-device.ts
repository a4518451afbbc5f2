import { TensorwireError } from "@tensorwire/core";
import type { GpuDevice, GpuLimits } from "./web-gpu.js";

interface GpuAdapter {
  readonly limits: GpuLimits;
  requestDevice(descriptor: { requiredLimits: Record<string, number> }): Promise<GpuDevice>;
}

/** A `GPU`, as `navigator.gpu` is one. */
export interface Gpu {
  /** A GPU and its driver, or `null` where there is none that fits. */
  requestAdapter(options?: {
    powerPreference?: "high-performance" | "low-power";
  }): Promise<GpuAdapter | null>;
}

/** How `openGpuDevice` finds a GPU. */
export interface OpenGpuDeviceOptions {
  /** Default: `navigator.gpu` where there is one, else npm `webgpu` (Dawn), which is loaded for that. */
  readonly gpu?: Gpu | undefined;
  /** Flags of Dawn's own, where npm `webgpu` is loaded: `["adapter=NAME"]`. */
  readonly flags?: readonly string[] | undefined;
}

/** A device, and how to close it. */
export interface OpenGpuDevice {
  /** For `gpuCodecs`, and for what else the caller does with it. */
  readonly device: GpuDevice;
  /** Destroys the device, and lets the process end. */
  close(): void;
}

/**
 * What made each device. Dawn takes the process down with it when that is collected before the device, or when a device is
 * used after it, be it lost or closed; and the device is all that many callers keep.
 */
const makers = new WeakMap<GpuDevice, Gpu>();

/** Devices that are open, though somebody may have kept no more of one than its buffers. */
const opened = new Set<GpuDevice>();

/**
 * Opens a GPU, with buffers as large as it allows. Dawn keeps a process alive until the device is closed.
 * @throws TensorwireError `DEVICE_UNAVAILABLE`.
 * @example
 * // not run: needs a GPU
 * const { device, close } = await openGpuDevice();
 */
export async function openGpuDevice(options: OpenGpuDeviceOptions = {}): Promise<OpenGpuDevice> {
  const gpu: Gpu = options.gpu ?? browserGpu() ?? (await dawn(options.flags ?? []));
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
  makers.set(device, gpu);
  opened.add(device);
  return {
    device,
    close() {
      if (opened.delete(device)) device.destroy();
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
