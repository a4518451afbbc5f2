import { MessageChannel } from "node:worker_threads";

// Who sends a buffer away has it no more; a port that is closed lets go of it in that very call.
const { port1: nowhere } = new MessageChannel();
nowhere.close();

/** Newer than the oldest runtime that we support, and its types. */
type Transferable = ArrayBuffer & { transfer?(bytes: number): ArrayBuffer };

/**
 * Gives a buffer's memory back at once. The garbage collector would in its time, which external memory waits long for: a
 * budget counts it as free from here on. Nobody may still use it: every view of it is empty afterwards.
 */
export function discardSlab(buffer: Transferable): void {
  if (buffer.transfer) buffer.transfer(0);
  else nowhere.postMessage(undefined, [buffer]);
}
