import type { Answer, BufferPool, Chunk, Loan } from "@tensorwire/core";
import type { Part } from "./chunk-rule.js";
import { Turns } from "../compute/turns.js";

/** The chunk of all clients at once, decoded, for as long as `use` takes. */
export async function withDecodedChunks(
  parts: readonly Part[],
  chunk: Chunk,
  pool: BufferPool,
  use: (chunks: readonly Uint8Array[]) => Answer<void>,
): Promise<void> {
  const loans: Loan[] = [];
  try {
    for (const { client } of parts) loans.push(await client.decoded(chunk, pool));
    await use(loans.map(({ bytes }) => bytes));
  } finally {
    for (const loan of loans) loan.release();
  }
}

/** The chunk of one client after the other, decoded. */
export async function eachDecodedChunk(
  parts: readonly Part[],
  chunk: Chunk,
  pool: BufferPool,
  use: (bytes: Uint8Array, part: Part, index: number) => void,
): Promise<void> {
  const turns = new Turns();
  for (const [index, part] of parts.entries()) {
    await turns.next();
    const loan = await part.client.decoded(chunk, pool);
    try {
      use(loan.bytes, part, index);
    } finally {
      loan.release();
    }
  }
}
