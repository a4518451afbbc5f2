import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BufferPool,
  ChunkPlan,
  type Manifest,
  type Tensor,
  type TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { afterEach, beforeEach, expect } from "vitest";
import { type ArtifactOptions, artifactSource } from "../src/source/artifact.js";
import { pattern, poolFor } from "./source-reading.js";

export let folder: string;
export let path: string;

/** Registers a folder of each test's own, and in it a path for an artifact. */
export function hasPath(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-artifact-"));
    path = join(folder, "model.twire");
  });
  afterEach(() => rm(folder, { recursive: true }));
}

const floats = (count: number, phase = 0): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.37 + phase));
const withNaN = floats(20_000, 1);
withNaN[9000] = Number.NaN;
export const tensors: Tensor[] = [
  { name: "w", dtype: "F32", shape: [200, 150], data: floats(30_000) },
  { name: "ids", dtype: "I32", shape: [9], data: pattern(36) },
  { name: "none", dtype: "F32", shape: [0, 2], data: new Uint8Array() },
  { name: "nan", dtype: "F32", shape: [20_000], data: withNaN },
  ...Array.from(
    { length: 200 },
    (_, i): Tensor => ({ name: `t${i}`, dtype: "U8", shape: [100], data: pattern(100, i) }),
  ),
];
export const codec = ({ dtype }: Tensor) => ({ name: dtype === "F32" ? "blockwise8" : "none" });

/** Opens, reads every chunk with `hold` loans out, closes. */
export async function readAll(
  options?: ArtifactOptions,
  hold = 3,
): Promise<{ manifest: Manifest; payloads: Buffer[] }> {
  const source = artifactSource(path, options);
  let pool = new BufferPool(1);
  try {
    const manifest = await source.open();
    const plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    pool = poolFor(plan);
    const payloads: Buffer[] = [];
    const held: { loan: { bytes: Uint8Array; release(): void } }[] = [];
    const finish = ({ loan }: (typeof held)[0]): void => {
      payloads.push(Buffer.from(loan.bytes));
      loan.release();
    };
    try {
      for (const chunk of plan.walk()) {
        const { record, loan } = await source.readEncoded(chunk, pool);
        expect(record).toEqual(source.record(chunk.ordinal));
        expect(record.hash).toBe(xxh64(loan.bytes));
        held.push({ loan });
        if (held.length > hold) finish(held.shift()!);
      }
    } finally {
      held.forEach(finish);
    }
    return { manifest, payloads };
  } finally {
    await source.close();
    expect(pool.loans).toBe(0);
  }
}

export async function fault(bytes: Uint8Array, options?: ArtifactOptions): Promise<TensorwireError> {
  await writeFile(path, bytes);
  return readAll(options).then(
    () => Promise.reject(new Error("was read without a fault")),
    (error) => error,
  );
}
