/**
 * Adds `weight` times each value to the sum in its place. Every step is rounded to the sums' own precision, so that the
 * bits are the same on every machine.
 * @returns whether all values are finite.
 */
export function addWeighted(
  values: Float32Array | Float64Array,
  weight: number,
  sums: Float32Array | Float64Array,
): boolean {
  // Apart: an engine compiles a loop for the kind of array that it sees in it.
  if (values instanceof Float32Array && sums instanceof Float32Array) return addSingles(values, weight, sums);
  if (values instanceof Float64Array && sums instanceof Float64Array) return addDoubles(values, weight, sums);
  throw new TypeError("values and sums are both float32, or both float64");
}

function addSingles(values: Float32Array, weight: number, sums: Float32Array): boolean {
  const factor = Math.fround(weight);
  let zero = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    sums[i] = sums[i]! + Math.fround(factor * value);
    // NaN from the first value on that is not finite.
    zero += value * 0;
  }
  return zero === 0;
}

function addDoubles(values: Float64Array, weight: number, sums: Float64Array): boolean {
  let zero = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    sums[i] = sums[i]! + weight * value;
    zero += value * 0;
  }
  return zero === 0;
}

/** Whether all values are finite. */
export function allFinite(values: Float32Array | Float64Array): boolean {
  return values.every(Number.isFinite);
}
