import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { platformPackage } from "./platform-package.js";

/** Takes a queued job's result, or undefined where the job was cancelled before it began. */
export type JobCallback<Result> = (result: Result | undefined) => void;

/** The payload's hash; null where there was no memory for the job. Numbers are in `found`. */
export type EncodeResult = bigint | null;

/** Places in `found`: `Found` of native/schedule.h. */
export const FOUND = Object.freeze({
  bytes: 0,
  scaleBytes: 1,
  nonFinite: 2,
  clamped: 3,
  packedBytes: 4,
  declined: 5,
  /** Elements that vector kernels left to the scalar ones for what they are: for tests. */
  slow: 6,
});

/** What came of a payload, or of an envelope: `Verdict` of native/chunk.h. */
export const VERDICT = Object.freeze({ intact: 0, corrupt: 1, invalid: 2, noEnvelope: 3, notFinite: 4 });

/** `kContract` of native/addon.cc: which of its versions this is written for. */
const CONTRACT = 3;

/**
 * What native/addon.cc exports. Every argument is checked there; a wrong one throws an error whose `code` is one of
 * TensorwireError's. Without a callback a call does its work at once and returns the result; with one it queues the
 * work on libuv's threads and returns the job's number.
 */
export interface Addon {
  readonly contract: number;
  /** Instruction sets that this processor runs, fastest first; calls give an index into it. */
  readonly isas: readonly string[];
  /** What the latest encode or pack job found besides a hash: read it before anything else is called. */
  readonly found: Float64Array;
  /** Whether it was built with libzstd: otherwise nothing is packed, and no envelope is opened. */
  readonly packs: boolean;
  /**
   * @param options the codec's parameters beside its block, where it has any: see native-spec.ts.
   * @param packed takes the envelope, where one is wanted.
   * @param tensor with stochastic rounding: xxh64 of the tensor's name.
   * @param first with stochastic rounding: index of the first element in its tensor.
   */
  encode(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    source: Uint8Array,
    target: Uint8Array,
    callback?: JobCallback<EncodeResult>,
    options?: Uint8Array,
    packed?: Uint8Array,
    tensor?: bigint,
    first?: number,
  ): EncodeResult | number;
  /**
   * The result is a verdict.
   * @param unpacked where the payload is an envelope: room for what is in it, of exactly its length.
   */
  decode(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    payload: Uint8Array,
    hash: bigint | undefined,
    output: number,
    target: Uint8Array,
    callback?: JobCallback<number>,
    options?: Uint8Array,
    unpacked?: Uint8Array,
  ): number;
  /**
   * The result is a verdict, of which `notFinite` is one.
   * @param sums as many as there are elements, or more.
   */
  accumulate(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    payload: Uint8Array,
    hash: bigint | undefined,
    weight: number,
    sums: Float32Array | Float64Array,
    callback?: JobCallback<number>,
    options?: Uint8Array,
    unpacked?: Uint8Array,
  ): number;
  /** The result is a verdict, of which `notFinite` is one. */
  inspect(
    isa: number,
    codec: number,
    block: number,
    dtype: number,
    elements: number,
    payload: Uint8Array,
    hash: bigint | undefined,
    output: number,
    callback?: JobCallback<number>,
    options?: Uint8Array,
    unpacked?: Uint8Array,
  ): number;
  hash(bytes: Uint8Array, callback?: JobCallback<bigint>): bigint | number;
  /** The payload is exactly as long as its segments, of which there are at most 16. */
  pack(
    payload: Uint8Array,
    segments: readonly number[],
    packed: Uint8Array,
    callback?: JobCallback<bigint>,
  ): bigint | number;
  /** The result is the payload's hash, or a verdict that is not `intact`. */
  unpack(
    packed: Uint8Array,
    segments: readonly number[],
    payload: Uint8Array,
    callback?: JobCallback<bigint | number>,
  ): bigint | number;
  /** One frame with the bytes, made at once: its length, or 0 where it does not fit. */
  makeFrame(bytes: Uint8Array, target: Uint8Array): number;
  /** Fills the target from one frame, at once; false where it is none of exactly that many bytes. */
  openFrame(frame: Uint8Array, target: Uint8Array): boolean;
  /** Takes a job out of the queue, if it has not begun; its callback comes later either way. */
  cancel(job: number): boolean;
  addressOffset(buffer: ArrayBuffer, modulo: number): number;
}

// The same place from src and from dist.
const BUILT = fileURLToPath(new URL("../build/tensorwire_quant.node", import.meta.url));

const load = createRequire(import.meta.url);
let found: Addon | undefined;

/**
 * The addon at `path`: by default the one that was built here, else the one of the platform's package. Otherwise the
 * error that says why it cannot be loaded.
 */
export function loadAddon(path?: string): Addon | Error {
  if (path !== undefined) return addonAt(path);
  if (found !== undefined) return found;
  let addon = addonAt(BUILT);
  const prebuilt = isMissing(addon) ? platformPackage() : undefined;
  if (prebuilt !== undefined) addon = addonAt(prebuilt);
  if (!(addon instanceof Error)) found = addon;
  return addon;
}

/** Whether there is nothing where an addon was looked for. */
export function isMissing(addon: Addon | Error): boolean {
  return addon instanceof Error && (addon as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
}

function addonAt(path: string): Addon | Error {
  try {
    const addon = load(path) as Addon;
    // Its bytes could be others, and nobody would notice before a model is wrong.
    if (addon.contract !== CONTRACT) {
      return new Error(`${path} was built from another version's sources, and has to be built anew`);
    }
    return addon;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/**
 * The instruction sets that the addon has for this processor, fastest first; none where there is no addon.
 * @example
 * console.log(Array.isArray(instructionSets())); // true
 */
export function instructionSets(): readonly string[] {
  const addon = loadAddon();
  return addon instanceof Error ? [] : [...addon.isas];
}
