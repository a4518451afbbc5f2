import { xxh64 } from "../hash.js";
import { encodeManifest, type Manifest } from "../manifest.js";

/**
 * What two transfers have in common whose chunks are the same ones in the same codecs: xxh64 over names, dtypes, shapes,
 * codecs with their parameters, and the chunk size. Seeds are left out: each transfer draws its own.
 * @example
 * const tensors = [{ name: "x", dtype: "F32", shape: [3], codec: { name: "none" } }] as const;
 * const manifest = { kind: "model", chunkBytes: 32768, tensors, metadata: new Map<string, string>() } as const;
 * console.log(codecPlanDigest(manifest) === codecPlanDigest({ ...manifest, metadata: new Map([["round", "7"]]) })); // true
 */
export function codecPlanDigest({ kind, tensors, chunkBytes }: Manifest): bigint {
  const seedless = tensors.map(({ name, dtype, shape, codec: { seed: _, ...codec } }) => ({
    name,
    dtype,
    shape,
    codec,
  }));
  return xxh64(encodeManifest({ kind, tensors: seedless, chunkBytes, metadata: new Map() }));
}
