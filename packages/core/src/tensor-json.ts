import { DTYPE_BITS, type DType } from "./dtype.js";
import { quote } from "./errors.js";
import type { JsonReader } from "./json-reader.js";
import { checkLimit, type Limits } from "./limits.js";

// Of hundreds of thousands of tensors each would have a string of its own for the same few names.
const DTYPES: ReadonlyMap<string, DType> = new Map(
  Object.keys(DTYPE_BITS).map((name) => [name, name as DType]),
);

export function readDType(json: JsonReader): DType {
  const name = json.string();
  const dtype = DTYPES.get(name);
  if (dtype === undefined) throw json.fault(`unknown dtype ${quote(name)}`);
  return dtype;
}

/** @param name The tensor's, for messages. */
export function readShape(json: JsonReader, name: string, limits: Limits): readonly number[] {
  const shape: number[] = [];
  json.array((index) => {
    if (index === limits.maxRank) {
      checkLimit(limits, "maxRank", index + 1, `the rank of tensor ${quote(name)}`);
    }
    shape.push(json.count());
  });
  // An array that grew keeps room for more: several times what a shape takes, for each tensor.
  return shape.slice();
}
