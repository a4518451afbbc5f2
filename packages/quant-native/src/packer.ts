import { createRequire } from "node:module";
import * as zlib from "node:zlib";
import { type Packer, quote, TensorwireError, unpackOnly } from "@tensorwire/core";
import { type Addon, loadAddon } from "./addon.js";

// What packs where the codecs do not run natively: the portable backend, and an addon that was built without libzstd.

const require = createRequire(import.meta.url);

/**
 * What makes frames of planes and codes: with a table of 64 places hardly a match is found but runs, and Huffman codes
 * do the rest. A bf16's exponents come to 34 % at 1.3 GB/s, where level 1 alone makes 37 % of them at 0.4 GB/s.
 */
const LEVEL = 1;
const HASH_LOG = 6;

type MakePacker = (addon: Addon | Error) => Packer | undefined;

/** What can pack, the best first. */
const PACKERS: Readonly<Record<string, MakePacker>> = {
  addon: (addon) => (addon instanceof Error || !addon.packs ? undefined : addonPacker(addon)),
  "zstd-napi": zstdNapiPacker,
  zlib: zlibPacker,
  none: () => unpackOnly,
};

/**
 * The best packer that is here: the addon's libzstd, else the package `zstd-napi`, else `node:zlib` where it has zstd,
 * else one that only unpacks. `TENSORWIRE_PACKER` can name one (`addon`, `zstd-napi`, `zlib`, `none`).
 * @throws TensorwireError `INVALID_ARGUMENT` where the environment names one that is not here.
 * @example
 * const packer = nodePacker();
 * const frame = new Uint8Array(1000);
 * const bytes = packer.pack(new Uint8Array(1000), frame);
 * console.log(bytes < 1000); // true
 */
export function nodePacker(addon: Addon | Error = loadAddon()): Packer {
  const wanted = process.env.TENSORWIRE_PACKER || undefined;
  if (wanted === undefined) {
    for (const make of Object.values(PACKERS)) {
      const packer = make(addon);
      if (packer !== undefined) return packer;
    }
    return unpackOnly;
  }
  const packer = Object.hasOwn(PACKERS, wanted) ? PACKERS[wanted]!(addon) : undefined;
  if (packer !== undefined) return packer;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `TENSORWIRE_PACKER is ${quote(wanted)}, which is not here; it can be ${Object.keys(PACKERS).join(", ")}`,
  );
}

function addonPacker(addon: Addon): Packer {
  return {
    name: "addon",
    pack: (bytes, target) => addon.makeFrame(bytes, target),
    unpack(frame, target) {
      if (!addon.openFrame(frame, target)) throw new Error("this is no zstd frame of that many bytes");
    },
  };
}

/** What is used of `zstd-napi/binding`. */
interface ZstdBinding {
  readonly CCtx: new () => {
    setParameter(parameter: number, value: number): void;
    compress2(target: Uint8Array, source: Uint8Array): number;
  };
  readonly CParameter: { readonly compressionLevel: number; readonly hashLog: number };
  readonly DCtx: new () => { decompress(target: Uint8Array, source: Uint8Array): number };
}

/** It is an optional dependency: neither it nor the addon that its installation makes need be there. */
function zstdNapiPacker(): Packer | undefined {
  let binding: ZstdBinding;
  try {
    binding = require("zstd-napi/binding") as ZstdBinding;
  } catch {
    return undefined;
  }
  const compressor = new binding.CCtx();
  compressor.setParameter(binding.CParameter.compressionLevel, LEVEL);
  compressor.setParameter(binding.CParameter.hashLog, HASH_LOG);
  const decompressor = new binding.DCtx();
  return {
    name: "zstd-napi",
    pack(bytes, target) {
      try {
        return compressor.compress2(target, bytes);
      } catch {
        // It does not say why; with sound arguments there is one reason only, that the frame does not fit.
        return 0;
      }
    },
    unpack(frame, target) {
      expectLength(decompressor.decompress(target, frame), target);
    },
  };
}

/** Node has zstd from 22.15 on; the types that we compile with are older. */
interface ZlibZstd {
  readonly zstdCompressSync?: (bytes: Uint8Array, options: object) => Uint8Array;
  readonly zstdDecompressSync?: (frame: Uint8Array, options: object) => Uint8Array;
}

function zlibPacker(): Packer | undefined {
  const { zstdCompressSync: compress, zstdDecompressSync: decompress } = zlib as ZlibZstd;
  if (compress === undefined || decompress === undefined) return undefined;
  const { ZSTD_c_compressionLevel, ZSTD_c_hashLog } = zlib.constants as unknown as Record<string, number>;
  const params = { [ZSTD_c_compressionLevel!]: LEVEL, [ZSTD_c_hashLog!]: HASH_LOG };
  return {
    name: "zlib",
    pack(bytes, target) {
      // Without the size it would leave it out of the header, and ask for a window that a peer refuses.
      const frame = compress(bytes, { params, pledgedSrcSize: bytes.length });
      if (frame.length > target.length) return 0;
      target.set(frame);
      return frame.length;
    },
    unpack(frame, target) {
      const bytes = decompress(frame, { maxOutputLength: Math.max(1, target.length) });
      expectLength(bytes.length, target);
      target.set(bytes);
    },
  };
}

function expectLength(bytes: number, target: Uint8Array): void {
  if (bytes !== target.length) throw new Error(`the frame holds ${bytes} bytes, not ${target.length}`);
}
