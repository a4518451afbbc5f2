import { TensorwireError } from "../errors.js";
import { blockSize, shown } from "./block-size.js";
import type { CodecSpec } from "./codec.js";
import { isSeed } from "./seed.js";

export const LINEAR_PARAMETERS = ["block", "mode", "rounding", "seed", "scale"] as const;

const LEAST_NORMAL = 2 ** -126;

/** A spec of `linearN`, read. */
export interface LinearParameters {
  /** Elements that share a scale; `undefined` where all of them have one. */
  readonly block: number | undefined;
  readonly affine: boolean;
  readonly stochastic: boolean;
  /** Only with stochastic rounding, and there too it may be yet to come. */
  readonly seed: string | undefined;
  /** The scale that all share, as the spec says it; what counts is its float32. */
  readonly scale: number | undefined;
}

/**
 * Reads and checks the parameters of `linearN`.
 * @param top the code furthest from that of zero in symmetric mode: what a shared scale is multiplied with.
 * @throws TensorwireError `INVALID_ARGUMENT`.
 */
export function linearParameters(codec: string, spec: CodecSpec, top: number): LinearParameters {
  const affine = oneOf(codec, "mode", spec.mode, "symmetric", "affine");
  const stochastic = oneOf(codec, "rounding", spec.rounding, "nearest", "stochastic");
  const { seed, scale } = spec;
  if (seed !== undefined) {
    if (!stochastic) throw invalid(codec, "takes a seed with stochastic rounding only");
    if (!isSeed(seed)) {
      throw invalid(codec, `takes a seed of 16 hexadecimal digits in lower case, not ${shown(seed)}`);
    }
  }
  if (scale === undefined) {
    return { block: blockSize(codec, spec.block, 256, 32), affine, stochastic, seed, scale };
  }
  if (affine) throw invalid(codec, "takes a scale in symmetric mode only: affine levels have an offset too");
  if (spec.block !== undefined) throw invalid(codec, "takes a block or a scale, not both");
  checkScale(codec, scale, top);
  return { block: undefined, affine, stochastic, seed, scale };
}

/** Whether a parameter has the second of its two values; left out, it has the first. */
function oneOf(codec: string, parameter: string, given: unknown, first: string, second: string): boolean {
  if (given === undefined || given === first) return false;
  if (given === second) return true;
  throw invalid(codec, `takes a ${parameter} of ${first} or ${second}, not ${shown(given)}`);
}

/** Whether a float32 is what it says, and its reciprocal too: positive, finite and not subnormal. */
export function isScale(given: unknown): given is number {
  if (typeof given !== "number") return false;
  const single = Math.fround(given);
  return [single, Math.fround(1 / single)].every((value) => value >= LEAST_NORMAL && Number.isFinite(value));
}

function checkScale(codec: string, scale: unknown, top: number): void {
  if (isScale(scale) && Number.isFinite(Math.fround(top * Math.fround(scale)))) return;
  throw invalid(
    codec,
    `takes a scale that is positive and, like its reciprocal and its ${top}-fold, within float32, not ${shown(scale)}`,
  );
}

function invalid(codec: string, what: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", `codec ${codec} ${what}`);
}
