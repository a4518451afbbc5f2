import { Socket } from "node:net";
import { discardSlab } from "../budget/slab-memory.js";

/** Portions from here on are given back at once: of smaller ones the collector is not told of enough to hurry. */
const DISCARDED_BYTES = 8 * 1024;

/**
 * Gives back the memory of what a socket has read, once whoever takes it has had it for the duration of a call. Node takes
 * 64 KiB outside the heap for each portion, and V8 collects all of its heap whenever 32 MiB of that have come together.
 * Whatever anybody else may have stays: what another listener was told, a part of a larger buffer, what no socket of Node's
 * read.
 */
export function discardPortion(stream: object, { length, buffer }: Buffer): void {
  const read = stream instanceof Socket && stream.listenerCount("data") === 1;
  if (read && length >= DISCARDED_BYTES && buffer.byteLength === length) discardSlab(buffer as ArrayBuffer);
}
