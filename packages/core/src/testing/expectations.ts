import { expect } from "vitest";

/** What suites fill the room beside a buffer with. */
export const UNTOUCHED = 0xa5;

/** Bytes beside a buffer, as they were. */
export function expectUntouched(bytes: Uint8Array, where: string): void {
  expect(
    bytes.every((byte) => byte === UNTOUCHED),
    `untouched: ${where}`,
  ).toBe(true);
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
