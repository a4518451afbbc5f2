import { expectUntouched, UNTOUCHED } from "./expectations.js";
import { pseudoRandom } from "./samples.js";

/** Sums to add to: of ordinary size, zeros of both signs, subnormal ones, and large ones. */
const SIZES = [0.1, 0.1, 0, -0, 2 ** -140, 2 ** 120];

/** Sums amid bytes that nobody may touch. */
export class GuardedSums {
  readonly sums: Float32Array | Float64Array;
  readonly #before: Uint8Array;
  readonly #after: Uint8Array;

  constructor(output: "F32" | "F64", count: number, offset: number) {
    const width = output === "F32" ? 4 : 8;
    const all = new Uint8Array((offset + count + 9) * width).fill(UNTOUCHED);
    const Kind = output === "F32" ? Float32Array : Float64Array;
    this.sums = new Kind(all.buffer, offset * width, count);
    this.#before = all.subarray(0, offset * width);
    this.#after = all.subarray((offset + count) * width);
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.sums.buffer, this.sums.byteOffset, this.sums.byteLength);
  }

  fill(seed: number): void {
    const random = pseudoRandom(seed);
    const { sums } = this;
    for (let i = 0; i < sums.length; i++) sums[i] = (random() - 0.5) * SIZES[i % SIZES.length]!;
  }

  /** The contract's arithmetic, one operation and one rounding at a time; returns whether all values are finite. */
  add({ sums: values }: GuardedSums, weight: number): boolean {
    const { sums } = this;
    let finite = true;
    // A loop for each width: one that knew neither would take most of the suite's time.
    if (sums instanceof Float32Array && values instanceof Float32Array) {
      const factor = Math.fround(weight);
      for (let i = 0; i < sums.length; i++) {
        sums[i] = sums[i]! + Math.fround(factor * values[i]!);
        finite &&= Number.isFinite(values[i]);
      }
    } else if (sums instanceof Float64Array && values instanceof Float64Array) {
      for (let i = 0; i < sums.length; i++) {
        sums[i] = sums[i]! + weight * values[i]!;
        finite &&= Number.isFinite(values[i]);
      }
    } else {
      throw new Error("sums and values of two widths");
    }
    return finite;
  }

  expectGuarded(where: string): void {
    expectUntouched(this.#before, `before the sums: ${where}`);
    expectUntouched(this.#after, `beyond the sums: ${where}`);
  }
}
