import { bytesOf } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { type AggregateSource, aggregate } from "../src/index.js";
import { read, update, updateOf, values } from "./aggregate-fixture.js";
import { failure } from "./sink-fixture.js";

describe("weights", () => {
  test("are the metadata's num_examples, and their sum is the aggregate's", async () => {
    const mean = aggregate({
      b: updateOf(2, { num_examples: "100", round: "7", loss: "0.5", format: "pt" }),
      a: updateOf(1, { num_examples: "300", round: "7", loss: "0.25" }),
    });
    const { info, tensors } = await read(mean);
    expect([...info.metadata]).toEqual([
      ["round", "7"],
      ["num_examples", "400"],
    ]);
    expect(mean.report).toEqual({
      taken: [
        { id: "a", weight: 0.75 },
        { id: "b", weight: 0.25 },
      ],
      excluded: [],
      weighting: "num_examples",
      notices: [],
    });
    const [a, b] = [values(1), values(2)];
    const expected = Float32Array.from(a, (value, i) => 0.75 * value + 0.25 * b[i]!);
    expect(Buffer.compare(tensors.get("weight")!, bytesOf(expected))).toBe(0);
  });

  test.each(["1e20", "100000000000000000000", "0.000001234567890123456"])(
    "that an aggregate has summed are read by another one: %s",
    async (examples) => {
      const each = (): AggregateSource => aggregate([updateOf(1, { num_examples: examples })]);
      const mean = aggregate([aggregate([each(), each()]), each()]);
      await read(mean);
      expect(mean.report!.excluded).toEqual([]);
      expect(mean.report!.taken[0]!.weight).toBeCloseTo(2 / 3);
    },
  );

  test("are the same where nobody says how many, and the sum is not stated where somebody does not", async () => {
    const mean = aggregate([update(1), update(2)]);
    const { info } = await read(mean);
    expect(info.metadata.size).toBe(0);
    expect(mean.report).toMatchObject({ weighting: "equal", taken: [{ weight: 0.5 }, { weight: 0.5 }] });
    const given = aggregate([updateOf(1, { num_examples: "5" }), update(2)], { weights: [1, 3] });
    expect((await read(given)).info.metadata.size).toBe(0);
    expect(given.report).toMatchObject({ weighting: "given", taken: [{ weight: 0.25 }, { weight: 0.75 }] });
  });

  test("that some do not say are an error that says what to do", async () => {
    const error = await failure(read(aggregate({ a: updateOf(1, { num_examples: "5" }), b: update(2) })));
    expect(error.code).toBe("SOURCE_MISMATCH");
    expect(error.message).toMatch(/num_examples is missing of "b".*give weights/);
  });

  test.each(["0", "-5", "NaN", "Infinity", "1e999", "0x10", " 5", "", "five", "1,000"])(
    "of %j leave a client out, or are an error",
    async (said) => {
      const sources = () => ({
        a: updateOf(1, { num_examples: said }),
        b: updateOf(2, { num_examples: "9" }),
      });
      const mean = aggregate(sources());
      const { tensors, info } = await read(mean);
      expect(mean.report!.excluded).toMatchObject([
        { id: "a", reason: expect.stringContaining("num_examples") },
      ]);
      expect(info.metadata.get("num_examples")).toBe("9");
      expect(Buffer.compare(tensors.get("weight")!, bytesOf(values(2)))).toBe(0);
      const error = await failure(read(aggregate(sources(), { nonFinite: "error" })));
      expect(error).toMatchObject({
        code: "SOURCE_MISMATCH",
        message: expect.stringContaining('client "a"'),
      });
    },
  );

  test("of the largest there are do not overflow", async () => {
    const mean = aggregate([update(1), update(2)], { weights: [Number.MAX_VALUE, Number.MAX_VALUE] });
    await read(mean);
    expect(mean.report!.taken.map(({ weight }) => weight)).toEqual([0.5, 0.5]);
  });

  test.each([
    [{ weights: [1] }, /1 weights for 2/],
    [{ weights: [1, 0] }, /client "1".*positive.*not 0/],
    [{ weights: { "0": 1 } }, /client "1".*there is none/],
    [
      {
        weights: new Map([
          ["0", 1],
          ["1", Number.NaN],
        ]),
      },
      /client "1".*NaN/,
    ],
    [{ weights: { "0": 1, "1": "2" } }, /client "1"/],
  ])("that cannot be used are refused: %j", async (options, words) => {
    const error = await failure(read(aggregate([update(1), update(2)], options as never)));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringMatching(words) });
  });
});
