import { type CodecBackend, type CodecRegistry, TensorwireError } from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import type { GpuBackend, GpuDevice } from "@tensorwire/quant-native/gpu";

/** What a device's kernels are compiled and tested for: once, for all transfers with it. */
const opened = new WeakMap<GpuDevice, WeakMap<CodecRegistry, Promise<GpuBackend>>>();

export interface BackendOptions {
  readonly backend?: CodecBackend | "auto" | "cpu" | "gpu" | undefined;
  readonly device?: GpuDevice | undefined;
}

/**
 * Where a transfer's codecs run.
 * @throws TensorwireError `INVALID_ARGUMENT` for a word that is none, and for `"gpu"` without a device.
 */
export async function resolveBackend(
  { backend = "auto", device }: BackendOptions,
  registry: CodecRegistry,
): Promise<CodecBackend> {
  if (typeof backend === "object" && backend !== null) return ofTransfer(backend);
  if (backend !== "auto" && backend !== "cpu" && backend !== "gpu") {
    const message = `backend is auto, cpu, gpu or a backend of your own, not ${JSON.stringify(backend)}`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  if (device === undefined) {
    if (backend !== "gpu") return defaultBackend({ codecs: registry });
    const message = "backend is gpu, and there is no device: give one, of openGpuDevice() or navigator.gpu";
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  const gpu = await kernelsOf(device, registry);
  return gpu.again({ hostJobs: backend === "gpu", deviceJobs: backend !== "cpu" });
}

/** A backend that counts for itself what ran where counts for one transfer only. */
function ofTransfer(backend: CodecBackend): CodecBackend {
  const { again } = backend as Partial<GpuBackend>;
  return typeof again === "function" ? again.call(backend) : backend;
}

function kernelsOf(device: GpuDevice, registry: CodecRegistry): Promise<GpuBackend> {
  let byRegistry = opened.get(device);
  if (byRegistry === undefined) opened.set(device, (byRegistry = new WeakMap()));
  let kernels = byRegistry.get(registry);
  if (kernels === undefined) {
    const host = defaultBackend({ codecs: registry });
    // Loaded where there is a device alone.
    kernels = import("@tensorwire/quant-native/gpu").then(({ gpuCodecs }) =>
      gpuCodecs(device, { host, codecs: registry, selfTest: "first-use" }),
    );
    byRegistry.set(registry, kernels);
    // A device that failed once may do better the next time.
    kernels.catch(() => byRegistry.delete(registry));
  }
  return kernels;
}
