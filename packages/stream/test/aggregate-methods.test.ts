import { bytesOf } from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type AggregateOptions,
  aggregate,
  receiveModel,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import {
  elementsOf,
  floats,
  hasFolder,
  pack,
  path,
  read,
  received,
  update,
  values,
} from "./aggregate-fixture.js";
import { failure } from "./sink-fixture.js";

hasFolder();

const of = (data: Float32Array): TensorMap => ({ w: { dtype: "F32", shape: [data.length], data } });

describe("robust means", () => {
  test("are, element by element, those of whole models in binary64, whatever the codec and the clients' order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom("none", "normfloat4", "float16"),
        fc.constantFrom("F32", "F16", "F64"),
        fc.oneof(fc.constant("median" as const), fc.double({ min: 0.01, max: 0.49, noNaN: true })),
        async (clients, codec, dtype, how) => {
          const elements = 9_001;
          const paths: string[] = [];
          for (let client = 0; client < clients; client++) {
            const data = elementsOf(values(client, elements), dtype);
            paths.push(await pack(path(), { w: { dtype, shape: [elements], data } }, codec));
          }
          const options: AggregateOptions =
            how === "median" ? { method: "median" } : { method: "trimmed-mean", trim: how };
          const turned = Object.fromEntries(paths.map((each, i) => [`c${i}`, each]).reverse());
          const { tensors } = await read(aggregate(turned, options));
          const columns = await Promise.all(
            paths.map(async (each) => {
              // As its dtype: that is what is compared.
              for await (const { data } of receiveModel(each)) return floats(data, dtype);
              return new Float64Array();
            }),
          );
          const half = Math.floor((clients - 1) / 2);
          const dropped = how === "median" ? half : Math.min(half, Math.ceil(how * clients - 1e-9));
          const expected = Float64Array.from({ length: elements }, (_, i) => {
            const sorted = Float64Array.from(columns, (column) => column[i]!).sort();
            const middle = sorted.slice(dropped, clients - dropped);
            return middle.reduce((sum, value) => sum + value) / middle.length;
          });
          expect(Buffer.compare(tensors.get("w")!, elementsOf(expected, dtype))).toBe(0);
        },
      ),
      { numRuns: 25 },
    );
  }, 60_000);

  test("are not moved by one client that lies, as the plain mean is", async () => {
    const honest = Array.from({ length: 5 }, () => of(values(1)));
    const sources = [...honest, of(values(1).map((value) => 1e6 - value))];
    for (const options of [{ method: "median" }, { method: "trimmed-mean" }] as const) {
      const { tensors } = await read(aggregate(sources, options));
      expect(Buffer.compare(tensors.get("w")!, bytesOf(values(1)))).toBe(0);
    }
    const plain = floats((await read(aggregate(sources))).tensors.get("w")!);
    expect(plain.every((value) => value > 1e5)).toBe(true);
  });

  test("say that clients count alike", async () => {
    const sources = { a: tensorsSource(update(1), { metadata: { num_examples: "9" } }), b: update(2) };
    const median = aggregate(sources, { method: "median" });
    await read(median);
    expect(median.report).toMatchObject({ weighting: "equal", taken: [{ weight: 0.5 }, { weight: 0.5 }] });
  });
});

describe("clipNorm", () => {
  const norm = (tensors: Iterable<Float32Array>): number =>
    Math.sqrt([...tensors].reduce((sum, data) => sum + data.reduce((total, x) => total + x * x, 0), 0));

  test.each([{}, { accumulator: "f32" }, { method: "median" }] as const)(
    "scales an update down to a norm, over all of its tensors, and leaves others alone: %j",
    async (options) => {
      const loud = values(2).map((value) => value * 1000);
      const sources = { quiet: of(values(1)), loud: await pack(path(), of(loud)) };
      const clipNorm = 2 * norm([values(1)]);
      const mean = aggregate(sources, { ...options, clipNorm });
      const { tensors } = await read(mean);
      const factor = clipNorm / norm([loud]);
      expect(mean.report!.taken).toMatchObject([
        { id: "loud", norm: expect.closeTo(norm([loud]), 6), factor: expect.closeTo(factor, 12) },
        { id: "quiet", norm: expect.closeTo(norm([values(1)]), 6), factor: 1 },
      ]);
      const found = floats(tensors.get("w")!);
      values(1).forEach((value, i) => {
        expect(found[i]!).toBeCloseTo((value + loud[i]! * factor) / 2, 7);
      });
    },
  );

  test("is the same however tensors are cut and ordered, and nothing of integers", async () => {
    const ids = { dtype: "I32", shape: [2], data: Int32Array.of(1e9, -1e9) } as const;
    const norms = new Set<number>();
    for (const chunkBytes of [32_768, 131_072]) {
      const at = await pack(path(), { ...update(3), ids }, "none", chunkBytes);
      const { bias, weight } = update(3);
      const turned = await pack(path(), { bias: bias!, ids, weight: weight! }, "none", chunkBytes);
      const mean = aggregate([at, turned], { clipNorm: 1 });
      await read(mean, chunkBytes);
      for (const { norm } of mean.report!.taken) norms.add(norm!);
    }
    expect(norms.size).toBe(1);
    expect([...norms][0]).toBeCloseTo(norm([values(3), values(3.5, 37)]), 8);
  });
});

describe("integers and bools", () => {
  const model = (steps: readonly bigint[], flags: readonly number[], other = 1): TensorMap => ({
    steps: { dtype: "I64", shape: [steps.length], data: BigInt64Array.from(steps) },
    flags: { dtype: "BOOL", shape: [flags.length], data: Uint8Array.from(flags) },
    eighth: { dtype: "F8_E4M3", shape: [2], data: Uint8Array.of(other, 2) },
  });
  const large = 2n ** 60n + 1n;
  const sources = {
    a: model([1n, large, 10n], [0, 1]),
    b: model([4n, large, 11n], [1, 1]),
    c: model([9n, large, 11n], [1, 0], 7),
  };
  const found = async (options: AggregateOptions) => {
    const mean = aggregate(sources, options);
    const { tensors } = await read(mean);
    const steps = [...new BigInt64Array(tensors.get("steps")!.slice().buffer)];
    return {
      steps,
      flags: [...tensors.get("flags")!],
      eighth: [...tensors.get("eighth")!],
      report: mean.report!,
    };
  };

  test("that agree are what they are, without a word", async () => {
    for (const integers of ["first", "error", "mean-round", "max"] as const) {
      const mean = aggregate([model([large], [1]), model([large], [1])], { integers });
      const { tensors } = await read(mean);
      expect([...new BigInt64Array(tensors.get("steps")!.slice().buffer)]).toEqual([large]);
      expect(mean.report!.notices).toEqual([]);
    }
  });

  test("that do not are the first client's, with a notice for each tensor", async () => {
    const warnings: (Error & { code?: string })[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on("warning", onWarning);
    const { steps, flags, eighth, report } = await found({});
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", onWarning);
    expect(steps).toEqual([1n, large, 10n]);
    expect(flags).toEqual([0, 1]);
    expect(eighth).toEqual([1, 2]);
    expect(report.notices).toEqual([
      expect.stringMatching(
        /^tensor "steps": clients do not agree on its I64 values; those of "a" are taken/,
      ),
      expect.stringMatching(/^tensor "flags": .*BOOL/),
      expect.stringMatching(/^tensor "eighth": .*F8_E4M3/),
    ]);
    expect(warnings.filter(({ code }) => code === "TENSORWIRE_INTEGERS")).toHaveLength(1);
  });

  test("that do not are the greatest, or the weighted mean to the nearest", async () => {
    const max = await found({ integers: "max" });
    expect([max.steps, max.flags]).toEqual([
      [9n, large, 11n],
      [1, 1],
    ]);
    // What has no order here is as before.
    expect(max.eighth).toEqual([1, 2]);
    expect(max.report.notices).toHaveLength(1);
    const mean = await found({ integers: "mean-round" });
    expect([mean.steps, mean.flags]).toEqual([
      [5n, large, 11n],
      [1, 1],
    ]);
    const weighted = await found({ integers: "mean-round", weights: { a: 10, b: 1, c: 1 } });
    expect([weighted.steps, weighted.flags]).toEqual([
      [2n, large, 10n],
      [0, 1],
    ]);
  });

  test("are tied where as many say one as another, however many", async () => {
    for (const clients of [12, 14, 18, 22]) {
      const models = Array.from({ length: clients }, (_, i) => model([10n + BigInt(i % 2)], [i % 2]));
      const { tensors } = await read(aggregate(models, { integers: "mean-round" }));
      expect([...new BigInt64Array(tensors.get("steps")!.slice().buffer)]).toEqual([10n]);
      expect([...tensors.get("flags")!]).toEqual([0]);
      const large = models.map(() => 2 ** 1000 * 3);
      const weighted = await read(aggregate(models, { integers: "mean-round", weights: large }));
      expect([...new BigInt64Array(weighted.tensors.get("steps")!.slice().buffer)]).toEqual([10n]);
    }
  });

  test("that do not are an error where that is asked for", async () => {
    const error = await failure(read(aggregate(sources, { integers: "error" })));
    expect(error).toMatchObject({ code: "SOURCE_MISMATCH", tensor: "steps", chunk: 0 });
    expect(error.message).toMatch(/client "b": its I64 values are not those of "a"/);
  });
});

test("what is received of an artifact is what is averaged", async () => {
  const at = await pack(path(), update(1), "blockwise8");
  const { tensors } = await read(aggregate([at]));
  expect(
    Buffer.compare(
      elementsOf(floats((await received(at)).get("weight")!, "F64"), "F32"),
      tensors.get("weight")!,
    ),
  ).toBe(0);
});
