import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, beforeEach, expect } from "vitest";
import type { TransferEndMessage } from "../src/diagnostics/events.js";

/**
 * Registers what must hold after every test, however its transfers ended: all buffers are back. Gives the ends of the transfers of
 * the test that runs.
 */
export function checksLoans(): readonly TransferEndMessage[] {
  const ends: TransferEndMessage[] = [];
  const onEnd = (message: unknown): void => void ends.push(message as TransferEndMessage);
  beforeEach(() => {
    ends.length = 0;
    subscribe("tensorwire:transfer:end", onEnd);
  });
  afterEach(() => {
    unsubscribe("tensorwire:transfer:end", onEnd);
    expect(ends.filter(({ loans }) => loans !== 0)).toEqual([]);
  });
  return ends;
}
