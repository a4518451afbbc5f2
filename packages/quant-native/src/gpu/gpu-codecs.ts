import {
  type CodecBackend,
  type CodecRegistry,
  defaultCodecs,
  PortableBackend,
  TensorwireError,
} from "@tensorwire/core";
import { CodecTrials } from "./codec-trials.js";
import { DeviceCodecs } from "./device-codec.js";
import { Dispatcher } from "./dispatch.js";
import { GpuBackend } from "./gpu-backend.js";
import { Staging } from "./staging.js";
import { Transport } from "./transport.js";
import type { GpuDevice } from "./web-gpu.js";

/** Codecs that there are kernels for. */
export const GPU_CODECS: readonly string[] = Object.freeze([
  "float16",
  "bfloat16",
  "blockwise8",
  "float4",
  "normfloat4",
  ...[2, 3, 4, 5, 6, 7, 8].map((bits) => `linear${bits}`),
]);

/** As much as a window: what a stream has on its way. */
const DEFAULT_STAGING_BYTES = 32 * 1024 * 1024;

/** What `gpuCodecs` runs where, and with how much memory of the device. */
export interface GpuCodecsOptions {
  /** Runs what is not the device's: hashes, packing, sums, other codecs, and by default jobs of host bytes. Default: the portable codecs. */
  readonly host?: CodecBackend | undefined;
  /** Which codecs the device runs. Default: all of `GPU_CODECS`. */
  readonly only?: readonly string[] | undefined;
  /** When a codec is compiled and tried on the device: all of them at once, now, or each before its first chunk. Default `"open"`. */
  readonly selfTest?: "open" | "first-use" | undefined;
  /** Runs jobs of host bytes on the device too: to test, and to measure. Default false. */
  readonly hostJobs?: boolean | undefined;
  /** Bytes of buffers between host and device that may be in use at once. Default 32 MiB. */
  readonly stagingBytes?: number | undefined;
  /** The codecs that jobs may name; `host` has to know the same. */
  readonly codecs?: CodecRegistry | undefined;
  /** Called where the CPU has to do what was the device's. Default: a warning of the process, or of the console. */
  readonly notice?: ((message: string) => void) | undefined;
  /** Added to each reciprocal that the device computes, in units of the last place, before it is corrected: for tests. */
  readonly reciprocalError?: number | undefined;
}

/**
 * Codecs on a GPU, behind the contract of any backend: jobs whose source or target are `DeviceBytes` run where those
 * are. The device is the caller's, before and after.
 *
 * Each codec is tried on the device first. One whose bits differ from the reference's runs on the CPU, with a notice.
 * @param device of `navigator.gpu`, or of `openGpuDevice()`.
 * @throws TensorwireError `DEVICE_LOST`; `INVALID_ARGUMENT` for options that cannot be used.
 * @example
 * // not run: needs a GPU
 * const backend = await gpuCodecs(device, { host: defaultBackend(), only: ["normfloat4"] });
 * const source = { buffer, byteOffset: 0, byteLength: 4 * elements };
 * const { hash } = await backend.encode({ codec: { name: "normfloat4" }, dtype: "F32", elements, source, target });
 */
export async function gpuCodecs(device: GpuDevice, options: GpuCodecsOptions = {}): Promise<GpuBackend> {
  const { only = GPU_CODECS, hostJobs = false, codecs = defaultCodecs, reciprocalError = 0 } = options;
  const { host = new PortableBackend(codecs), stagingBytes = DEFAULT_STAGING_BYTES, notice = warn } = options;
  const { selfTest = "open" } = options;
  const unknown = only.filter((name) => !GPU_CODECS.includes(name));
  if (unknown.length > 0) {
    throw new TensorwireError("INVALID_ARGUMENT", `there are no kernels for ${unknown.join(", ")}`);
  }
  if (!Number.isSafeInteger(stagingBytes) || stagingBytes < 1) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `stagingBytes is ${stagingBytes}, and has to be a number of bytes`,
    );
  }
  const transport = new Transport(new Dispatcher(device, reciprocalError), new Staging(device, stagingBytes));
  const deviceCodecs = new DeviceCodecs(codecs, device.limits);
  const trials = new CodecTrials(only, transport, deviceCodecs, notice);
  if (selfTest === "open") await trials.all();
  const name = `gpu-${deviceName(device)}`;
  return new GpuBackend(transport, deviceCodecs, {
    ...{ name, registry: codecs, host, trials, hostJobs, notice },
    deviceJobs: true,
  });
}

/** A word for what runs: `swiftshader`, `ampere`, … */
function deviceName({ adapterInfo }: GpuDevice): string {
  const { architecture, vendor } = adapterInfo ?? {};
  return architecture || vendor || "device";
}

function warn(message: string): void {
  const { process } = globalThis as {
    process?: { emitWarning?: (message: string, options: { type: string; code: string }) => void };
  };
  if (process?.emitWarning)
    process.emitWarning(message, { type: "TensorwireWarning", code: "TENSORWIRE_GPU" });
  else console.warn(message);
}
