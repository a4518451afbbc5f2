import {
  type BufferPool,
  byteLength,
  type Chunk,
  type FloatDType,
  type FloatElements,
  type Loan,
} from "@tensorwire/core";
import type { ElementRuns } from "./element-runs.js";

/** A tensor that an operation takes elements of. */
export interface Operand {
  readonly runs: ElementRuns;
  readonly tensor: number;
  readonly dtype: FloatDType;
}

export type Operation = (a: FloatElements, b: FloatElements, elements: number, target: FloatElements) => void;

/** A chunk of `dtype` whose elements are those of two operands, combined. */
export function combined(
  chunk: Chunk,
  dtype: FloatDType,
  [a, b]: readonly [Operand, Operand],
  operation: Operation,
  pool: BufferPool,
): Promise<Loan> {
  return filled(chunk, pool, (target) =>
    a.runs.each(chunk, a.tensor, pool, (left, at, count) =>
      b.runs.each(part(chunk, at, count), b.tensor, pool, (right, within, elements) => {
        operation(
          { dtype: a.dtype, bytes: left.subarray(byteLength(a.dtype, within)) },
          { dtype: b.dtype, bytes: right },
          elements,
          { dtype, bytes: target.subarray(byteLength(dtype, at + within)) },
        );
      }),
    ),
  );
}

/** The run of a chunk's elements that begins at its `at`-th. */
function part(chunk: Chunk, at: number, elements: number): Chunk {
  const width = chunk.bytes / chunk.elements;
  return {
    ...chunk,
    first: chunk.first + at,
    offset: chunk.offset + width * at,
    elements,
    bytes: width * elements,
  };
}

/** Lends a chunk that `fill` writes; nothing stays lent where that fails. */
export async function filled(
  chunk: Chunk,
  pool: BufferPool,
  fill: (target: Uint8Array) => Promise<void>,
): Promise<Loan> {
  const target = pool.lend(chunk.bytes);
  try {
    await fill(target.bytes);
    return target;
  } catch (error) {
    target.release();
    throw error;
  }
}
