import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addDifferences,
  addModulo32,
  addRounded,
  bytesOf,
  f32ToBf16Bits,
  f32ToF16Bits,
  RankedMeans,
  SquareSum,
  storeSums,
  takeGreater,
  WHOLE_DTYPES,
  type WholeDType,
} from "../src/index.js";
import { mergeExchange } from "../src/aggregation/ranked-means.js";

/** The same bytes at an address that suits no element. */
function shifted(view: ArrayBufferView): Uint8Array {
  const bytes = bytesOf(view);
  const out = new Uint8Array(bytes.length + 1).subarray(1);
  out.set(bytes);
  return out;
}

describe("sums become elements", () => {
  const values = [0, -0, 1, 1.000_000_06, -3.5, 65_519, 1e-8, 0.1];

  test("rounded to nearest even, by way of float32", () => {
    for (const sums of [Float32Array.from(values), Float64Array.from(values)]) {
      const f32 = Float32Array.from(sums);
      const bits = new Int32Array(f32.buffer);
      const expected = {
        F32: f32,
        F64: Float64Array.from(sums),
        F16: Uint16Array.from(bits, (each) => f32ToF16Bits(each)),
        BF16: Uint16Array.from(bits, (each) => f32ToBf16Bits(each)),
      } as const;
      for (const dtype of ["F16", "BF16", "F32", "F64"] as const) {
        const width = expected[dtype].BYTES_PER_ELEMENT;
        const target = new Uint8Array(width * 9).subarray(width);
        storeSums(sums, dtype, values.length, target.subarray(0, 0 + width * 8));
        expect(target, dtype).toEqual(bytesOf(expected[dtype]));
      }
    }
  });

  test("from an element on, and no further than they go", () => {
    const target = new Float32Array(10_004).fill(7);
    const sums = new Float64Array(20_000).fill(0.1);
    storeSums(sums, "F32", 10_000, bytesOf(target), 2);
    expect([target[1], target[2], target[10_001], target[10_002]]).toEqual([
      7,
      Math.fround(0.1),
      Math.fround(0.1),
      7,
    ]);
  });
});

describe("the L2 norm", () => {
  test("is that of all elements, however they are cut", () => {
    const data = new Float32Array(20_000).map((_, i) => Math.sin(i * 12.9898) * (1 + (i % 7)));
    const exact = Math.sqrt(data.reduce((sum, value) => sum + value * value, 0));
    const norms = [4096, 8192, 20_000].map((cut) => {
      const squares = new SquareSum();
      for (let at = 0; at < data.length; at += cut) {
        const run = data.subarray(at, at + cut);
        expect(squares.add("F32", run.length, shifted(run))).toBe(true);
      }
      return squares.norm;
    });
    expect(new Set(norms).size).toBe(1);
    expect(norms[0]! / exact).toBeCloseTo(1, 12);
  });

  test("of values whose squares no binary64 holds", () => {
    const squares = new SquareSum();
    squares.add("F64", 5, bytesOf(Float64Array.of(3e200, 0, 0, 0, -4e200)));
    expect(squares.norm / 5e200).toBeCloseTo(1, 12);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("notices %d", (value) => {
    for (const at of [0, 3, 4, 5]) {
      const data = new Float32Array(6);
      data[at] = value;
      expect(new SquareSum().add("F32", 6, bytesOf(data))).toBe(false);
    }
    // Not an infinity that only its square is.
    expect(new SquareSum().add("F64", 1, bytesOf(Float64Array.of(1e300)))).toBe(true);
  });
});

describe("means of the middle", () => {
  test("exchanges sort any values", () => {
    for (let places = 1; places <= 9; places++) {
      const pairs = mergeExchange(places);
      // Zeros and ones are enough: what sorts all of those sorts everything.
      for (let word = 0; word < 2 ** places; word++) {
        const bits = Array.from({ length: places }, (_, i) => (word >> i) & 1);
        for (const [low, high] of pairs) {
          if (bits[low]! > bits[high]!) [bits[low], bits[high]] = [bits[high]!, bits[low]!];
        }
        expect(bits, `${places} places, ${word}`).toEqual(bits.toSorted());
      }
    }
  });

  test("are what sorting each place gives", () => {
    const value = fc.float({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }).chain((models) =>
          fc.record({
            models: fc.array(fc.array(value, { minLength: 5, maxLength: 5 }), {
              minLength: models,
              maxLength: models,
            }),
            dropped: fc.nat(Math.floor((models - 1) / 2)),
            factor: fc.constantFrom(1, 0.25),
          }),
        ),
        ({ models, dropped, factor }) => {
          const factors = models.map((_, i) => (i % 2 ? factor : 1));
          const target = new Float32Array(5);
          const sources = models.map((model) => shifted(Float32Array.from(model)));
          new RankedMeans(models.length, dropped).combine("F32", 5, sources, factors, bytesOf(target));
          const expected = target.map((_, at) => {
            const column = models
              .map((model, i) => Math.fround(model[at]!) * factors[i]!)
              .sort((a, b) => a - b);
            const middle = column.slice(dropped, column.length - dropped);
            return middle.reduce((sum, each) => sum + each) / middle.length;
          });
          // Of zeros a sort by comparison does not know which comes first.
          expect(target.map((each) => each + 0)).toEqual(expected.map((each) => each + 0));
        },
      ),
    );
  });

  test("of the largest values there are is finite", () => {
    const most = bytesOf(Float64Array.of(1.7e308, -1.7e308, Number.POSITIVE_INFINITY, 1));
    const target = new Float64Array(4);
    new RankedMeans(4, 0).combine("F64", 4, [most, most, most, most], [1, 1, 1, 1], bytesOf(target));
    expect([...target]).toEqual([1.7e308, -1.7e308, Number.POSITIVE_INFINITY, 1]);
  });

  test("of more elements than are sorted at once, in any dtype", () => {
    const models = 70;
    const elements = 5000;
    const sources = Array.from({ length: models }, (_, m) =>
      Float64Array.from({ length: elements }, (_, i) => ((m * 37 + i) % models) * 2),
    );
    const target = new Float64Array(elements);
    const means = new RankedMeans(models, 34);
    means.combine(
      "F64",
      elements,
      sources.map(bytesOf),
      sources.map(() => 1),
      bytesOf(target),
    );
    expect(new Set(target)).toEqual(new Set([69]));
    expect(means.bytes).toBeLessThan(1 << 20);
  });
});

describe("whole numbers", () => {
  const arrays = {
    BOOL: Uint8Array,
    U8: Uint8Array,
    I8: Int8Array,
    I16: Int16Array,
    U16: Uint16Array,
    I32: Int32Array,
    U32: Uint32Array,
    I64: BigInt64Array,
    U64: BigUint64Array,
  } as const;
  const viewOf = (dtype: WholeDType, numbers: readonly bigint[]): ArrayBufferView =>
    dtype.endsWith("64")
      ? new (arrays[dtype] as BigInt64ArrayConstructor)(numbers)
      : new (arrays[dtype] as Uint8ArrayConstructor)(numbers.map(Number));
  const ranges: Record<WholeDType, readonly [bigint, bigint]> = {
    BOOL: [0n, 1n],
    U8: [0n, 255n],
    I8: [-128n, 127n],
    I16: [-32_768n, 32_767n],
    U16: [0n, 65_535n],
    I32: [-(2n ** 31n), 2n ** 31n - 1n],
    U32: [0n, 2n ** 32n - 1n],
    I64: [-(2n ** 63n), 2n ** 63n - 1n],
    U64: [0n, 2n ** 64n - 1n],
  };

  test.each(WHOLE_DTYPES)("%s: the greater, and the mean to nearest even", (dtype) => {
    const [min, max] = ranges[dtype];
    const number = fc.bigInt({ min, max });
    fc.assert(
      fc.property(fc.array(fc.tuple(number, number), { minLength: 1, maxLength: 20 }), (pairs) => {
        const [ours, theirs] = [0, 1].map((i) =>
          shifted(
            viewOf(
              dtype,
              pairs.map((pair) => pair[i]!),
            ),
          ),
        ) as [Uint8Array, Uint8Array];
        const greater = ours.slice();
        takeGreater(dtype, pairs.length, greater, theirs);
        const greatest = pairs.map(([a, b]) => (a > b ? a : b));
        expect(greater).toEqual(bytesOf(viewOf(dtype, greatest)));

        const sums = new Float64Array(pairs.length);
        addDifferences(dtype, pairs.length, ours, theirs, 0.5, sums);
        const mean = ours.slice();
        addRounded(dtype, pairs.length, mean, sums);
        const expected = pairs.map(([a, b]) => {
          // What is added is exact in binary64 up to 2^53, and as near as that beyond.
          const half = (b - a) / 2n;
          const odd = (b - a) % 2n;
          if (odd === 0n || half > 2n ** 50n || half < -(2n ** 50n)) return undefined;
          return (a + half) % 2n === 0n ? a + half : a + half + odd;
        });
        const found = [...new (arrays[dtype] as Uint8ArrayConstructor)(mean.slice().buffer)];
        pairs.forEach(([a, b], i) => {
          const [low, high] = a < b ? [a, b] : [b, a];
          const value = BigInt(found[i]!);
          expect(value >= low && value <= high, `${a}, ${b}: ${value}`).toBe(true);
          if (expected[i] !== undefined) expect(value).toBe(expected[i]);
        });
      }),
    );
  });

  test("numbers that agree stay what they are, however large", () => {
    const steps = bytesOf(BigInt64Array.of(2n ** 62n + 1n, -(2n ** 62n) - 3n));
    const sums = new Float64Array(2);
    addDifferences("I64", 2, steps, steps.slice(), 1 / 3, sums);
    const mean = steps.slice();
    addRounded("I64", 2, mean, sums);
    expect(mean).toEqual(steps);
  });

  test("a BOOL is 0, or 1 for anything else", () => {
    const target = Uint8Array.of(0, 0, 200);
    takeGreater("BOOL", 3, target, Uint8Array.of(7, 0, 0));
    expect([...target]).toEqual([1, 0, 1]);
  });

  test("sums modulo 2^32 wrap around", () => {
    const elements = 5000;
    const target = new Uint32Array(elements).fill(2 ** 32 - 3);
    addModulo32(elements, bytesOf(target), shifted(new Uint32Array(elements).fill(5)));
    expect(new Set(target)).toEqual(new Set([2]));
  });
});
