import { isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import type { AccumulateJob } from "./backend.js";

/** Refuses what cannot be summed, before anything is read. */
export function checkAccumulate({ codec, dtype, elements, weight, accumulator }: AccumulateJob): void {
  const refuse = (why: string) => {
    throw new TensorwireError("INVALID_ARGUMENT", `${codec.name}: ${why}`);
  };
  if (!isFloatDType(dtype)) refuse(`only F16, BF16, F32 and F64 are summed, not ${dtype}`);
  const single = accumulator instanceof Float32Array;
  if (!single && !(accumulator instanceof Float64Array)) {
    refuse("the accumulator is neither a Float32Array nor a Float64Array");
  }
  if (!Number.isSafeInteger(elements) || elements < 0 || accumulator.length < elements) {
    refuse(`an accumulator of ${accumulator.length} has no room for ${elements} elements`);
  }
  // A string is not finite; rounded to float32 it would be.
  if (!Number.isFinite(weight) || (single && !Number.isFinite(Math.fround(weight)))) {
    refuse(`a weight of ${weight} is not finite as ${single ? "float32" : "float64"}`);
  }
}
