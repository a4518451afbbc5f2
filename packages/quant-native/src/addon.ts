import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { EncodedChunk } from "@tensorwire/core";

/** Takes a queued job's result, or undefined where the job was cancelled before it began. */
export type JobCallback<Result> = (result: Result | undefined) => void;

/**
 * What native/addon.cc exports. Every argument is checked there; a wrong one throws an error whose `code` is one of
 * TensorwireError's. Without a callback a call does its work at once and returns the result; with one it queues the
 * work on libuv's threads and returns the job's number.
 */
export interface Addon {
  /** Instruction sets that this processor runs, fastest first; calls give an index into it. */
  readonly isas: readonly string[];
  encode(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    source: Uint8Array,
    target: Uint8Array,
    callback?: JobCallback<EncodedChunk>,
  ): EncodedChunk | number;
  /** The result is false, and the target untouched, where the payload does not have this hash. */
  decode(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    payload: Uint8Array,
    hash: bigint,
    output: number,
    target: Uint8Array,
    callback?: JobCallback<boolean>,
  ): boolean | number;
  hash(bytes: Uint8Array, callback?: JobCallback<bigint>): bigint | number;
  /** Takes a job out of the queue, if it has not begun; its callback comes later either way. */
  cancel(job: number): boolean;
  addressOffset(buffer: ArrayBuffer, modulo: number): number;
}

// The same place from src and from dist.
const BUILT = fileURLToPath(new URL("../build/tensorwire_quant.node", import.meta.url));

/** The addon at `path`, or the error that says why it cannot be loaded. */
export function loadAddon(path = BUILT): Addon | Error {
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
