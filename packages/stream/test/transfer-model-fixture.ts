import type { Chunk, ModelInfo } from "@tensorwire/core";
import type { ModelSink, ModelSource } from "../src/index.js";

export const KiB = 1024;
export const CHUNK = 64 * KiB;
export const WINDOW = 8 * CHUNK;
export const small = { chunkBytes: CHUNK, windowBytes: WINDOW } as const;
export const weights = Float32Array.from({ length: 40 * (CHUNK / 4) }, (_, i) => Math.sin(i * 12.9898));

export const model = {
  weights: { dtype: "F32", shape: [weights.length], data: weights },
  ids: { dtype: "I32", shape: [5], data: Int32Array.of(1, 2, 3, 4, 5) },
} as const;

/** A source of one tensor whose chunks are read when the test says so. */
export function sourceOf(
  chunks: number,
  read: (chunk: Chunk) => void | Promise<void>,
  extra: Partial<ModelSource> = {},
) {
  const info: ModelInfo = {
    kind: "model",
    tensors: [{ name: "w", dtype: "U8", shape: [chunks * CHUNK] }],
    metadata: new Map(),
  };
  const source: ModelSource = {
    name: "the source",
    open: async () => info,
    async read(chunk, pool) {
      await read(chunk);
      const loan = pool.lend(chunk.bytes);
      loan.bytes.fill(chunk.ordinal);
      return loan;
    },
    close: async () => {},
    ...extra,
  };
  return source;
}

export const sinkOf = (write: ModelSink["write"], extra: Partial<ModelSink> = {}): ModelSink => ({
  name: "the sink",
  parallel: false,
  async open() {},
  write,
  async finish() {},
  async abort() {},
  ...extra,
});
