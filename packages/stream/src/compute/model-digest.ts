import { createHash } from "node:crypto";
import {
  type Answer,
  BufferPool,
  type Chunk,
  ChunkPlan,
  type HashedTensor,
  type Loan,
  modelDigestOf,
  type TensorInfo,
} from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import { ModelReader, type ReadingOptions } from "../fidelity/model-reader.js";
import { sha256 } from "../session/sha256.js";
import { READ_AHEAD_BYTES } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import type { Input } from "./input.js";
import { Turns } from "./turns.js";

/**
 * The digest of a model as whoever reads it has it, decoded: of its tensors' names, dtypes, shapes and bytes, and of nothing
 * else. So the server that has an artifact, and the client that has what it received of it, in a file or in memory, find the
 * same one. It takes one pass over the model; docs/wire-format.md says how it is made.
 * @returns `sha256:` and 64 hexadecimal digits.
 * @throws TensorwireError as reading the model does; `INVALID_ARGUMENT` for a raw file.
 * @example await modelDigest("round-7.twire");
 */
export async function modelDigest(source: SourceLike, options: ReadingOptions = {}): Promise<string> {
  const reader = await ModelReader.open(source, options);
  try {
    const digest = await digestTensors(reader.info.tensors, reader.plan, (chunk) => reader.read(chunk));
    await reader.verify();
    return digest;
  } finally {
    await reader.close();
  }
}

/** The same of a model that is open, and stays so. */
export async function digestOf(input: Input): Promise<string> {
  const { tensors } = input.info;
  const plan = input.plan ?? new ChunkPlan(tensors, READ_AHEAD_BYTES);
  const pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES), undefined, discardSlab);
  try {
    return await digestTensors(tensors, plan, (chunk) => input.read(chunk, chunk.tensor, pool));
  } finally {
    pool.keep(0);
  }
}

async function digestTensors(
  tensors: readonly TensorInfo[],
  plan: ChunkPlan,
  read: (chunk: Chunk) => Answer<Loan>,
): Promise<string> {
  const hashed: HashedTensor[] = [];
  const turns = new Turns();
  for (const [i, info] of tensors.entries()) {
    const hash = createHash("sha256");
    for (const chunk of plan.walk([plan.range(i)])) {
      await turns.next();
      const loan = await read(chunk);
      hash.update(loan.bytes);
      loan.release();
    }
    hashed.push({ ...info, sha256: hash.digest() });
  }
  return modelDigestOf(hashed, sha256);
}
