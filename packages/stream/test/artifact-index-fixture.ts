import { type BufferPool, type ChunkPlan, type Loan, type Tensor, TensorwireError } from "@tensorwire/core";
import { expect } from "vitest";
import { type ArtifactOptions, type ArtifactSource, artifactSource } from "../src/source/artifact.js";
import type { ByteReader } from "../src/source/byte-reader.js";
import { pattern, poolFor } from "./source-reading.js";

export const tensors: Tensor[] = [
  { name: "w", dtype: "F32", shape: [30_000], data: new Float32Array(30_000).map((_, i) => Math.sin(i)) },
  { name: "ids", dtype: "I32", shape: [9], data: pattern(36) },
  { name: "none", dtype: "F32", shape: [0, 2], data: new Uint8Array() },
  ...Array.from(
    { length: 5 },
    (_, i): Tensor => ({ name: `t${i}`, dtype: "U8", shape: [100], data: pattern(100, i) }),
  ),
];
export const codec = ({ dtype }: Tensor) => ({ name: dtype === "F32" ? "blockwise8" : "none" });
export const content = { tensors, codec };

/** Bytes in memory, as a place that is read by position; it tells what was read. */
class Bytes implements ByteReader {
  readonly name = "bytes in memory";
  readonly size: number;
  readonly reads: [position: number, bytes: number][] = [];

  constructor(private readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  read(position: number, bytes: number, pool: BufferPool): Loan {
    const loan = pool.lend(bytes);
    void this.readInto(position, loan.bytes);
    return loan;
  }

  async readInto(position: number, target: Uint8Array): Promise<void> {
    if (position < 0 || position + target.length > this.size) throw new Error("read past the end");
    this.reads.push([position, target.length]);
    target.set(this.bytes.subarray(position, position + target.length));
  }

  forget(): void {}

  async verify(): Promise<void> {}

  async close(): Promise<void> {}
}

export async function opened(bytes: Uint8Array, options?: ArtifactOptions) {
  const reader = new Bytes(bytes);
  const source = artifactSource({ name: reader.name, open: async () => reader }, options);
  await source.open();
  return { reader, source };
}

export async function fault(bytes: Uint8Array, options?: ArtifactOptions): Promise<TensorwireError> {
  return opened(bytes, options).then(
    () => Promise.reject(new Error("was opened without a fault")),
    (error) => {
      if (!(error instanceof TensorwireError)) throw error;
      return error;
    },
  );
}

export async function payloadsOf(source: ArtifactSource, plan: ChunkPlan): Promise<Buffer[]> {
  const pool = poolFor(plan);
  const payloads: Buffer[] = [];
  for (const chunk of plan.walk()) {
    const { loan } = await source.readEncoded(chunk, pool);
    payloads.push(Buffer.from(loan.bytes));
    loan.release();
  }
  expect(pool.loans).toBe(0);
  return payloads;
}
