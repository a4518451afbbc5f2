import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ChunkRange } from "@tensorwire/core";
import { afterAll, beforeAll, expect } from "vitest";
import { cast, type SourceLike, streamModel, type TensorMap } from "../src/index.js";
import type { EncodedSource, ModelSource } from "../src/source/source.js";
import { readWhole } from "./source-reading.js";

export let folder: string;

/** Registers a folder of the tests' own. */
export function hasFolder(): void {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
}

export const f32 = (values: Iterable<number>, shape?: number[]) => {
  const data = Float32Array.from(values);
  return { dtype: "F32" as const, shape: shape ?? [data.length], data };
};
export const wave = (length: number, step: number) =>
  f32(Array.from({ length }, (_, i) => Math.sin(i * step) / 8));
export const ids = { dtype: "I64", shape: [3], data: BigInt64Array.of(1n, -2n, 3n) } as const;

/** A model, and what was trained of it: small steps, and other integers. */
export const base = { w: wave(50_000, 0.37), "layer.b": wave(9000, 0.11), ids } satisfies TensorMap;
export const trained = {
  w: f32(base.w.data.map((x, i) => x + (i % 17) / 4096)),
  "layer.b": f32(base["layer.b"].data.map((x) => x * 1.25)),
  ids: { ...ids, data: BigInt64Array.of(7n, 8n, 9n) },
} satisfies TensorMap;

export async function valuesOf(source: SourceLike, chunkBytes = 32_768): Promise<Map<string, Uint8Array>> {
  // What it is cast to nothing else is decoded, whatever it is.
  const plain = cast(source, {});
  const { tensors, loans } = await readWhole(plain, chunkBytes);
  expect(loans).toBe(0);
  return new Map(tensors);
}

export const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);
export const artifactOf = async (name: string, model: SourceLike, options: object): Promise<string> => {
  const path = join(folder, name);
  await streamModel(model, path, options);
  return path;
};

/** A source that counts its calls, and may fail. */
export function watched<S extends ModelSource | EncodedSource>(source: S, fails?: "open") {
  const calls = { open: 0, close: 0, read: 0, wanted: [] as (readonly ChunkRange[])[] };
  const { open, close } = source;
  const reads = "read" in source ? source.read : undefined;
  Object.assign(source, {
    open: () => {
      calls.open++;
      return fails === "open" ? Promise.reject(new Error("cannot")) : open.call(source);
    },
    close: () => {
      calls.close++;
      return close.call(source);
    },
    want: (runs: readonly ChunkRange[]) => void calls.wanted.push(runs),
    ...(reads && {
      read: (...args: Parameters<typeof reads>) => {
        calls.read++;
        return reads.apply(source, args);
      },
    }),
  });
  return { source, calls };
}
