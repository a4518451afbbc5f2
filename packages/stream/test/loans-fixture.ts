import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, beforeEach, expect } from "vitest";

/** Registers what must hold after every test, however its transfers ended: all buffers are back. */
export function checksLoans(): void {
  const loans: number[] = [];
  const onEnd = (message: unknown): void => void loans.push((message as { loans: number }).loans);
  beforeEach(() => {
    loans.length = 0;
    subscribe("tensorwire:transfer:end", onEnd);
  });
  afterEach(() => {
    unsubscribe("tensorwire:transfer:end", onEnd);
    expect(loans.filter((count) => count !== 0)).toEqual([]);
  });
}
