import { formatSha256, type Sha256 } from "./digest.js";
import type { TensorInfo } from "./tensor.js";

/** A tensor, and SHA-256 of its source bytes. */
export interface HashedTensor extends TensorInfo {
  /** 32 bytes. */
  readonly sha256: Uint8Array;
}

const encoder = new TextEncoder();

/**
 * The digest of a model, however it is stored: of its tensors' names, dtypes, shapes and bytes, and of nothing else. The same
 * for a file and for an artifact that decodes to it, in whatever order and chunks. docs/wire-format.md, "The model digest".
 * @returns `sha256:` and 64 hexadecimal digits.
 * @example
 * import { createHash } from "node:crypto";
 *
 * const sha256 = (...parts: readonly Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();
 * const tensor = { name: "x", dtype: "F32", shape: [3], sha256: sha256(bytesOf(Float32Array.of(1, 2, 3))) } as const;
 * console.log(modelDigestOf([tensor], sha256).length); // 71
 */
export function modelDigestOf(tensors: readonly HashedTensor[], sha256: Sha256): string {
  const named = tensors.map((tensor) => ({ ...tensor, key: encoder.encode(tensor.name) }));
  named.sort((a, b) => compareBytes(a.key, b.key));
  return `sha256:${formatSha256(sha256(...named.flatMap(entryOf)))}`;
}

function entryOf({ key, dtype, shape, sha256 }: HashedTensor & { readonly key: Uint8Array }): Uint8Array[] {
  const spelling = encoder.encode(dtype);
  const dimensions = new DataView(new ArrayBuffer(4 + 8 * shape.length));
  dimensions.setUint32(0, shape.length, true);
  for (const [i, dimension] of shape.entries()) dimensions.setBigUint64(4 + 8 * i, BigInt(dimension), true);
  return [length(key), key, length(spelling), spelling, new Uint8Array(dimensions.buffer), sha256];
}

function length({ length: bytes }: Uint8Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bytes, true);
  return new Uint8Array(view.buffer);
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}
