import { quote, TensorwireError } from "../errors.js";

/** Chunks begin at multiples of this: no block is longer. */
const LARGEST = 4096;

/**
 * A spec's `block`, `byDefault` where it has none.
 * @throws TensorwireError `INVALID_ARGUMENT` where it is no power of two from `least` to 4096.
 */
export function blockSize(codec: string, given: unknown, byDefault: number, least: number): number {
  const block = given === undefined ? byDefault : given;
  if (
    typeof block === "number" &&
    Number.isInteger(block) &&
    block >= least &&
    block <= LARGEST &&
    (block & (block - 1)) === 0
  ) {
    return block;
  }
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `codec ${codec} takes a block of ${least}, ${2 * least}, … or ${LARGEST} elements, not ${shown(block)}`,
  );
}

/** A parameter's value in an error: whoever gave it may be a stranger. */
export function shown(value: unknown): string {
  if (typeof value === "object" && value !== null) return "an object";
  return typeof value === "string" ? quote(value) : String(value);
}
