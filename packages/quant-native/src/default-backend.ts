import { type CodecBackend, PortableBackend, quote, TensorwireError } from "@tensorwire/core";
import { isMissing, loadAddon } from "./addon.js";
import { loadNativeBackend, type NativeBackendOptions } from "./native-backend.js";
import { nodePacker } from "./packer.js";
import { platformPackage } from "./platform-package.js";

let noticed = false;

/**
 * The fastest backend that runs here: native kernels, else the portable codecs and, once a process, a warning with the
 * code `TENSORWIRE_PORTABLE`. The environment can choose: `TENSORWIRE_BACKEND` is `native`, `scalar` (the native
 * kernels without vector instructions) or `portable`.
 * @throws TensorwireError `INVALID_ARGUMENT` where the environment asks for a backend that is not there.
 * @example
 * const backend = defaultBackend();
 * console.log((await backend.hash(new Uint8Array(0))).toString(16)); // ef46db3751d8e999
 */
export function defaultBackend(options: Omit<NativeBackendOptions, "isa"> = {}): CodecBackend {
  const wanted = process.env.TENSORWIRE_BACKEND || undefined;
  if (wanted !== undefined && !["native", "scalar", "portable"].includes(wanted)) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `TENSORWIRE_BACKEND is ${quote(wanted)}; it can be native, scalar or portable`,
    );
  }
  if (wanted !== "portable") {
    const native = loadNativeBackend({ ...options, isa: wanted === "scalar" ? "scalar" : undefined });
    if (native !== undefined) return native;
    const reason = reasonWithout(options.addon);
    if (wanted !== undefined) {
      throw new TensorwireError("INVALID_ARGUMENT", `TENSORWIRE_BACKEND is ${wanted}, but ${reason}`);
    }
    notice(reason);
  }
  return new PortableBackend(options.codecs, nodePacker(loadAddon(options.addon)));
}

function reasonWithout(path: string | undefined): string {
  const addon = loadAddon(path);
  if (!(addon instanceof Error)) return "the native addon lacks what this machine needs";
  if (!isMissing(addon)) return `the native addon cannot be loaded: ${addon.message}`;
  const missing = "the native addon was not built here";
  if (path !== undefined) return missing;
  const prebuilt = platformPackage();
  return prebuilt === undefined
    ? `${missing}, and there is no package with it for this platform`
    : `${missing}, and ${prebuilt} is not installed`;
}

function notice(reason: string): void {
  if (noticed) return;
  noticed = true;
  process.emitWarning(
    `${reason}. The portable codecs serve: the same bytes, an order of magnitude slower. For the addon, install a ` +
      "C++17 compiler and run `npm run build` in @tensorwire/quant-native; to do without this notice, set " +
      "TENSORWIRE_BACKEND=portable.",
    { type: "TensorwireWarning", code: "TENSORWIRE_PORTABLE" },
  );
}
