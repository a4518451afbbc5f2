import { open } from "node:fs/promises";
import {
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type Loan,
  type ModelInfo,
  BufferPool as Pool,
  serializeSafetensorsHeader,
  type TensorInfo,
  tensorBytes,
} from "@tensorwire/core";
import { vi } from "vitest";
import { type ModelSource, READ_AHEAD_BYTES } from "../src/source/source.js";

/** Bytes that tell one place of one file from another. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const out = new Uint8Array(bytes);
  let state = seed * 2654435761;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state >>> 24;
  }
  return out;
}

/** A safetensors file whose tensors hold `pattern(bytes, seed + place)`. */
export function safetensorsFile(
  infos: readonly TensorInfo[],
  { metadata, seed = 1 }: { metadata?: [string, string][]; seed?: number } = {},
): Uint8Array {
  const { bytes } = serializeSafetensorsHeader(infos, metadata);
  return Buffer.concat([bytes, ...infos.map((info, i) => pattern(tensorBytes(info), seed + i))]);
}

export function poolFor(plan: ChunkPlan): BufferPool {
  return new UsedPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES));
}

/** Buffers hold what they held before: here what is noticed, wherever it is taken for something. */
class UsedPool extends Pool {
  override lend(bytes: number): Loan {
    const loan = super.lend(bytes);
    loan.bytes.fill(0xff);
    return loan;
  }
}

export interface WholeModel {
  readonly info: ModelInfo;
  readonly plan: ChunkPlan;
  readonly tensors: ReadonlyMap<string, Uint8Array>;
  /** Loans that were still out when everything was given back. */
  readonly loans: number;
}

/** Reads a source as a sender does, with up to `hold` chunks on their way at once, given back in order. */
export async function readWhole(source: ModelSource, chunkBytes = 1 << 20, hold = 8): Promise<WholeModel> {
  let pool: BufferPool | undefined;
  try {
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, source.chunkBytes ?? chunkBytes);
    pool = poolFor(plan);
    const tensors = new Map(info.tensors.map((tensor) => [tensor.name, new Uint8Array(tensorBytes(tensor))]));
    const held: { chunk: Chunk; loan: Loan }[] = [];
    const finish = ({ chunk, loan }: { chunk: Chunk; loan: Loan }): void => {
      // Taken over only now, so that a buffer that was used again too early shows.
      tensors.get(info.tensors[chunk.tensor]!.name)!.set(loan.bytes, chunk.offset);
      loan.release();
    };
    for (const chunk of plan.walk()) {
      const loan = await source.read(chunk, pool);
      if (loan.bytes.length !== chunk.bytes) throw new Error(`${loan.bytes.length} bytes for ${chunk.bytes}`);
      held.push({ chunk, loan });
      if (held.length > hold) finish(held.shift()!);
    }
    held.forEach(finish);
    await source.verify?.();
    await source.close();
    return { info, plan, tensors, loans: pool.loans };
  } finally {
    await source.close();
  }
}

/** Counts reads of files, and can cut them short, until the mocks are restored. */
export async function watchReads(
  path: string,
  maxBytes = Number.POSITIVE_INFINITY,
): Promise<{ bytes: number[] }> {
  const handle = await open(path);
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const bytes: number[] = [];
  const { read } = prototype;
  vi.spyOn(prototype, "read").mockImplementation(function (this: unknown, ...args: unknown[]) {
    const [buffer, offset, length, position] = args as [Uint8Array, number, number, number];
    bytes.push(length);
    return read.call(this, buffer, offset, Math.min(length, maxBytes), position);
  });
  return { bytes };
}
