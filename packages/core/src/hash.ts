import xxhash from "xxhash-wasm";

// Compiled once when the module loads: every later call is synchronous. WebAssembly is in every runtime that we run on.
const { create64, h64Raw } = await xxhash();

// The WebAssembly memory grows to the longest input it is given and never shrinks: slices keep it small.
const SLICE = 64 * 1024;

/**
 * XXH64 with seed 0 over the concatenation of `parts` (xxHash specification, version 0.1.1).
 * @example
 * console.log(formatDigest(xxh64(new TextEncoder().encode("abc")))); // 44bc2cf5ad770999
 */
export function xxh64(...parts: Uint8Array[]): bigint {
  // In one call where it fits: a state costs more than hashing a small tensor.
  if (parts.length === 1 && parts[0]!.length <= SLICE) return h64Raw(parts[0]!);
  const state = create64();
  for (const part of parts) update(state, part);
  return state.digest();
}

/**
 * XXH64 with seed 0 of `begin` and of what is given then, without keeping `begin`. For one rest: it is gone on with.
 * @example
 * const encoder = new TextEncoder();
 * console.log(formatDigest(xxh64From(encoder.encode("a"))(encoder.encode("bc")))); // 44bc2cf5ad770999
 */
export function xxh64From(begin: Uint8Array): (rest: Uint8Array) => bigint {
  const state = create64();
  update(state, begin);
  return (rest) => {
    update(state, rest);
    return state.digest();
  };
}

function update(state: ReturnType<typeof create64>, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += SLICE) state.update(bytes.subarray(at, at + SLICE));
}
