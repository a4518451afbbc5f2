import { expect } from "vitest";
import type { DType } from "../dtype.js";
import { firstDifference, firstDifferentElement } from "./equality.js";

/** What suites fill the room beside a buffer with. */
export const UNTOUCHED = 0xa5;

// The suites compare so often that a matcher of the test runner, some ten microseconds each, would be most of their time.

/** Throws unless it is so. */
export function expectTrue(fact: boolean, what: string): void {
  if (!fact) throw new Error(`not so: ${what}`);
}

/** Throws where the bytes are not the same. */
export function expectSame(given: Uint8Array, expected: Uint8Array, what: string): void {
  const at = firstDifference(given, expected);
  if (at >= 0) {
    throw new Error(`byte ${at} of ${expected.length} is ${given[at]}, not ${expected[at]}: ${what}`);
  }
}

/** Throws where the bits of elements are not the same; any NaN is as good as any other. */
export function expectSameElements(
  dtype: DType,
  given: Uint8Array,
  expected: Uint8Array,
  what: string,
): void {
  const at = firstDifferentElement(dtype, given, expected);
  if (at >= 0) throw new Error(`element ${at} differs: ${what}`);
}

/** An answer with exactly these fields. */
export function expectFields(given: object, expected: object, what: string): void {
  const [found, wanted] = [given, expected] as readonly Record<string, unknown>[];
  const same = Object.keys({ ...given, ...expected }).every((key) => found![key] === wanted![key]);
  // The runner's matcher has the better words.
  if (!same) expect(given, what).toEqual(expected);
}

/** Bytes beside a buffer, as they were. */
export function expectUntouched(bytes: Uint8Array, where: string): void {
  expectTrue(
    bytes.every((byte) => byte === UNTOUCHED),
    `untouched: ${where}`,
  );
}

/** An answer that is a rejection with one of these codes. */
export async function expectRejection(codes: string | readonly string[], outcome: unknown): Promise<void> {
  const given = await Promise.resolve(outcome).then(
    () => "no rejection",
    (error: { code?: string }) => error.code ?? String(error),
  );
  expect([codes].flat()).toContain(given);
}

/** Room for `bytes` bytes amid others. */
export class GuardedBytes {
  readonly view: Uint8Array;
  readonly #all: Uint8Array;
  readonly #offset: number;

  constructor(bytes: number, offset = 0) {
    this.#all = new Uint8Array(offset + bytes + 64).fill(UNTOUCHED);
    this.#offset = offset;
    this.view = this.#all.subarray(offset, offset + bytes);
  }

  /** Nothing but the first `written` bytes of the view was written. */
  expectGuarded(where: string, written = this.view.length): void {
    expectUntouched(this.#all.subarray(0, this.#offset), `before ${where}`);
    expectUntouched(this.#all.subarray(this.#offset + written), `beyond ${where}`);
  }
}
