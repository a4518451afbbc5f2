import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesOf, type ChunkRange, type FloatDType } from "@tensorwire/core";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aggregate,
  type AggregateSource,
  apply,
  BASE_KEY,
  delta,
  type EncodedSource,
  fromTensors,
  type ModelSource,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import {
  CHUNK,
  elementsOf,
  floats,
  pack,
  read,
  received,
  update,
  updateOf,
  values,
} from "./aggregate-fixture.js";
import { type SampleTensor, sourceSuite } from "../src/testing/index.js";
import { failure } from "./sink-fixture.js";

let folder: string;
let files = 0;
const path = (): string => join(folder, `${files++}.twire`);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-aggregate-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const finite = [
  ...Object.entries(update(1, 30_001)).map(([name, tensor]) => ({ name, ...tensor })),
  { name: "ids", dtype: "I64", shape: [9], data: new BigInt64Array(9).fill(-3n) },
  { name: "empty", dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
  { name: "scalar", dtype: "BF16", shape: [], data: Uint16Array.of(0x3f80) },
].map(({ data, ...info }) => ({ ...info, data: bytesOf(data) }) as SampleTensor);
const model = new Map(finite.map(({ name, ...tensor }) => [name, tensor]));

for (const options of [{}, { accumulator: "f32", clipNorm: 1e9 }, { method: "median" }] as const) {
  sourceSuite(`aggregate of four of one model, ${JSON.stringify(options)}`, async () => ({
    source: aggregate({ a: model, b: model, c: model, d: model }, options),
    tensors: finite,
  }));
  sourceSuite(`aggregate of artifacts, ${JSON.stringify(options)}`, async () => ({
    source: aggregate([await pack(path(), model), await pack(path(), model, "lossless")], options),
    tensors: finite,
  }));
}

const CODECS = ["none", "float16", "bfloat16", "blockwise8", "normfloat4", "linear8", "lossless"];
const DTYPES: readonly FloatDType[] = ["F32", "F16", "BF16", "F64"];

describe("the weighted mean", () => {
  test("is, bit for bit, what whole models give in the same arithmetic, whatever their codecs and order", async () => {
    const client = fc.record({
      id: fc.string({ minLength: 1, maxLength: 4, unit: "grapheme" }),
      codec: fc.constantFrom(...CODECS),
      weight: fc.integer({ min: 1, max: 5000 }),
      plain: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(client, { minLength: 1, maxLength: 5, selector: ({ id }) => id }),
        fc.uniqueArray(fc.constantFrom(...DTYPES), { minLength: 1 }),
        fc.integer({ min: 0, max: 20_000 }),
        fc.constantFrom("f32", "f64"),
        async (clients, dtypes, elements, accumulator) => {
          const models = clients.map((_, at): TensorMap => {
            return Object.fromEntries(
              dtypes.map((dtype, t) => {
                const data = elementsOf(values(at * 10 + t, elements), dtype);
                return [dtype, { dtype, shape: [elements], data }];
              }),
            );
          });
          const paths = await Promise.all(models.map((model, i) => pack(path(), model, clients[i]!.codec)));
          const whole = await Promise.all(paths.map(received));
          const sources = Object.fromEntries(
            clients.map(({ id, codec, plain }, i) => [
              id,
              plain && codec === "none" ? models[i]! : paths[i]!,
            ]),
          );
          const weights = Object.fromEntries(clients.map(({ id, weight }) => [id, weight]));
          const mean = aggregate(sources, { weights, accumulator });
          const { tensors } = await read(mean);

          const order = clients.map((_, i) => i).sort((a, b) => (clients[a]!.id < clients[b]!.id ? -1 : 1));
          const most = Math.max(...clients.map(({ weight }) => weight));
          const total = order.reduce((sum, i) => sum + clients[i]!.weight / most, 0);
          for (const dtype of dtypes) {
            const single = accumulator === "f32" && dtype !== "F64";
            const round = single ? Math.fround : (value: number): number => value;
            const sums = new Float64Array(elements);
            for (const i of order) {
              const weight = round(clients[i]!.weight / most / total);
              const given = floats(whole[i]!.get(dtype)!, "F64");
              for (let at = 0; at < elements; at++) sums[at] = round(sums[at]! + round(weight * given[at]!));
            }
            expect(Buffer.compare(tensors.get(dtype)!, elementsOf(sums, dtype)), dtype).toBe(0);
          }
          expect(mean.report!.taken.map(({ id }) => id)).toEqual(order.map((i) => clients[i]!.id));
        },
      ),
      { numRuns: 25 },
    );
  }, 60_000);

  test("gives the same bytes in whatever order clients come, and chunks are cut", async () => {
    const ids = ["b", "a", "é", "10", "9", "𝒳"];
    const sources = new Map(ids.map((id, i) => [id, update(i)]));
    const weights = new Map(ids.map((id, i) => [id, 3 + i]));
    for (const options of [
      { weights },
      { weights, accumulator: "f32" },
      { method: "trimmed-mean" },
    ] as const) {
      const expected = await read(aggregate(sources, options));
      for (const chunkBytes of [CHUNK, 65_536, 1 << 20]) {
        const shuffled = new Map([...sources].reverse());
        const found = await read(aggregate(shuffled, options), chunkBytes);
        expect(found.tensors).toEqual(expected.tensors);
      }
    }
  });

  test("leaves alone what no client has changed", async () => {
    const frozen = values(1);
    const sources = Array.from(
      { length: 7 },
      (): TensorMap => ({ w: { dtype: "F32", shape: [frozen.length], data: frozen } }),
    );
    const { tensors } = await read(aggregate(sources, { weights: [1, 20, 300, 4000, 5, 66, 7] }));
    expect(Buffer.compare(tensors.get("w")!, bytesOf(frozen))).toBe(0);
  });

  test("takes tensors by their names, in whatever order a client has them", async () => {
    const { weight, bias } = update(2);
    const turned = await pack(path(), { bias: bias!, weight: weight! }, "normfloat4");
    const straight = await pack(path(), { weight: weight!, bias: bias! }, "normfloat4");
    const other = await pack(path(), update(1), "blockwise8");
    const expected = await read(aggregate([other, straight]));
    const found = await read(aggregate([other, turned]));
    expect(found.info.tensors.map(({ name }) => name)).toEqual(["weight", "bias"]);
    expect(found.tensors).toEqual(expected.tensors);
  });

  test("nests, and takes any source", async () => {
    const inner = aggregate({ a: update(1), b: await pack(path(), update(2)) });
    const { tensors } = await read(aggregate({ c: update(3), inner, d: await pack(path(), update(4)) }));
    const [a, b, c, d] = [1, 2, 3, 4].map((client) => values(client));
    const expected = c!.map((value, i) => (value + d![i]! + Math.fround((a![i]! + b![i]!) / 2)) / 3);
    floats(tensors.get("weight")!).forEach((value, i) => {
      expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(2 ** -23 * 0.14);
    });
  });

  test("of updates that clients make of one base, applied to it, is the mean of their models", async () => {
    const base = await pack(path(), update(0), "blockwise8");
    const updates = await Promise.all(
      [1, 2, 3].map((client) => pack(path(), delta(update(client), base), "float16")),
    );
    const { tensors, info } = await read(apply(base, aggregate(updates)));
    expect(info.metadata.size).toBe(0);
    const expected = [1, 2, 3].map((client) => values(client));
    floats(tensors.get("weight")!).forEach((value, i) => {
      const mean = (expected[0]![i]! + expected[1]![i]! + expected[2]![i]!) / 3;
      // What float16 leaves out of differences of at most a quarter.
      expect(Math.abs(value - mean)).toBeLessThanOrEqual(2 ** -13);
    });
    const other = await pack(
      path(),
      delta(update(1), await pack(path(), update(0), "normfloat4")),
      "float16",
    );
    expect(await failure(read(aggregate([...updates, other])))).toMatchObject({ code: "BASE_MISMATCH" });
  });

  test("tells its clients what will be asked for, by their own chunks", async () => {
    const { bias, weight } = update(1);
    const said: Record<string, (readonly ChunkRange[])[]> = {};
    const telling = async (id: string, model: TensorMap): Promise<EncodedSource> => {
      said[id] = [];
      const artifact = artifactSource(await pack(path(), model));
      const want = (runs: readonly ChunkRange[]) => void said[id]!.push(runs);
      return {
        ...{ name: id, finite: true, want, open: () => artifact.open(), close: () => artifact.close() },
        readEncoded: (chunk, pool) => artifact.readEncoded(chunk, pool),
      };
    };
    const mean = aggregate({
      straight: await telling("straight", { bias: bias!, weight: weight! }),
      turned: await telling("turned", { weight: weight!, bias: bias! }),
    });
    await mean.open();
    expect(said).toEqual({ straight: [], turned: [] });
    mean.want!([{ first: 1, count: 2 }]);
    expect(said).toEqual({ straight: [[{ first: 1, count: 2 }]], turned: [[{ first: 0, count: 2 }]] });
    await mean.close();
  });

  test("tells its clients of what it looks through, and of no integers", async () => {
    const { bias, weight } = update(1);
    const steps = { dtype: "I64", shape: [1], data: BigInt64Array.of(1n) } as const;
    const model = { a: steps, bias: bias!, weight: weight!, z: steps };
    const artifact = artifactSource(await pack(path(), model));
    const said: (readonly ChunkRange[])[] = [];
    const source = Object.assign(artifact, { want: (runs: readonly ChunkRange[]) => void said.push(runs) });
    const mean = aggregate([source]);
    await mean.open();
    await mean.close();
    expect(said).toEqual([[{ first: 1, count: 3 }]]);
  });

  test("ends with its signal while it looks through its clients", async () => {
    const ending = new AbortController();
    const tensor = tensorsSource(update(2));
    const { read: readChunk } = tensor;
    let reads = 0;
    tensor.read = (chunk, pool) => {
      reads++;
      ending.abort(new Error("enough"));
      return readChunk.call(tensor, chunk, pool);
    };
    const mean = aggregate({ a: update(1), b: tensor, c: update(3) }, { signal: ending.signal });
    const error = await failure(mean.open());
    expect(error).toMatchObject({ code: "ABORTED", cause: expect.objectContaining({ message: "enough" }) });
    expect(reads).toBe(1);
    await mean.close();
  });

  test("of one client is that client", async () => {
    const { tensors } = await read(aggregate([update(3)], { weights: [0.37] }));
    expect(Buffer.compare(tensors.get("weight")!, bytesOf(values(3)))).toBe(0);
  });

  test("of sources that are read once is read once, in lockstep", async () => {
    const declared = (client: number) => {
      const model = update(client);
      const tensors = Object.entries(model).map(([name, tensor]) => ({ name, ...tensor }));
      return fromTensors(tensors, tensors);
    };
    const mean = aggregate([declared(1), declared(2)]);
    expect(mean.oneShot).toBe(true);
    expect(aggregate([update(1)]).oneShot).toBe(false);
    const { tensors } = await read(mean);
    expect(tensors).toEqual((await read(aggregate([update(1), update(2)]))).tensors);
    const error = await failure(read(aggregate([declared(1), update(2)], { clipNorm: 1 })));
    expect(error).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/client "0": .*once/),
    });
    const turned = [...Object.entries(update(2))].reverse().map(([name, tensor]) => ({ name, ...tensor }));
    const order = await failure(read(aggregate({ a: update(1), b: fromTensors(turned, turned) })));
    expect(order).toMatchObject({
      code: "SOURCE_MISMATCH",
      tensor: "weight",
      message: expect.stringMatching(/"b": .*order/),
    });
  });
});

describe("the sources of clients", () => {
  function watched(closed: string[], name: string, fails = false): ModelSource {
    const source = tensorsSource(update(1));
    return Object.assign(source, {
      ...(fails && { open: () => Promise.reject(new Error("broken")) }),
      close: async () => void closed.push(name),
    });
  }

  test("are closed once each, also those that were never opened", async () => {
    const closed: string[] = [];
    const some = aggregate({
      a: watched(closed, "a"),
      b: watched(closed, "b", true),
      c: watched(closed, "c"),
    });
    await expect(some.open()).rejects.toThrow(/client "b": broken/);
    await some.close();
    await some.close();
    expect(closed.sort()).toEqual(["a", "b", "c"]);
    await aggregate([watched(closed, "d")]).close();
    expect(closed).toEqual(["a", "b", "c", "d"]);
  });

  test("are closed though they were still being opened then", async () => {
    const closed: string[] = [];
    const source = watched(closed, "a");
    const { open } = source;
    let goOn = (): void => {};
    const waiting = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const mean = aggregate([Object.assign(source, { open: () => waiting.then(() => open.call(source)) })]);
    const opening = failure(mean.open());
    await new Promise((resolve) => setImmediate(resolve));
    await mean.close();
    goOn();
    expect(await opening).toMatchObject({ code: "ABORTED" });
    expect(closed).toEqual(["a"]);
  });

  test("are closed though one of them cannot be opened, nor closed", async () => {
    const source = Object.assign(watched([], "a", true), { close: () => Promise.reject(new Error("stuck")) });
    await expect(aggregate([source]).open()).rejects.toThrow(/client "0": broken/);
  });
});

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

describe("models that do not belong together", () => {
  const w = { dtype: "F32", shape: [4], data: new Float32Array(4) } as const;
  const mean = (second: TensorMap) => failure(read(aggregate({ ada: { w }, bob: second })));

  test.each<[string, TensorMap, RegExp]>([
    ["a name", { v: w }, /client "bob": it has no such tensor/],
    ["a tensor more", { w, v: w }, /client "bob": "ada" has no such tensor/],
    ["a shape", { w: { ...w, shape: [2, 2] } }, /client "bob": it is F32 \[2,2\], and F32 \[4\] of "ada"/],
    ["a dtype", { w: { dtype: "I32", shape: [4], data: new Int32Array(4) } }, /client "bob": it is I32/],
  ])("are refused by %s, with client and tensor, before the first chunk", async (_, second, words) => {
    const error = await mean(second);
    expect(error.code).toBe("SOURCE_MISMATCH");
    expect(["w", "v"]).toContain(error.tensor);
    expect(error.message).toMatch(words);
  });

  test("are refused by the chunk size of artifacts", async () => {
    const ada = await pack(path(), update(1));
    const bob = await pack(path(), update(2), "none", 65_536);
    const error = await failure(read(aggregate({ ada, bob, eve: update(3) })));
    expect(error).toMatchObject({
      code: "SOURCE_MISMATCH",
      message: expect.stringMatching(/"bob".*65536.*"ada".*32768/),
    });
    const mean = aggregate({ ada, eve: update(3) });
    await mean.open();
    expect(mean.chunkBytes).toBe(CHUNK);
    await mean.close();
  });

  test("are refused by the base that they are deltas of", async () => {
    const of = (client: number, base: string | undefined) =>
      updateOf(client, base === undefined ? {} : { [BASE_KEY]: base });
    for (const [ada, bob] of [
      ["sha256:1", "sha256:2"],
      ["sha256:1", undefined],
      [undefined, "sha256:2"],
    ]) {
      const error = await failure(read(aggregate({ ada: of(1, ada), bob: of(2, bob) })));
      expect(error).toMatchObject({
        code: "BASE_MISMATCH",
        message: expect.stringMatching(/client "bob": .*base/),
      });
    }
    const { info } = await read(aggregate({ ada: of(1, "sha256:1"), bob: of(2, "sha256:1") }));
    expect(info.metadata.get(BASE_KEY)).toBe("sha256:1");
  });

  test("and what is no model, or no client", async () => {
    const raw = join(folder, "some.bin");
    await import("node:fs/promises").then(({ writeFile }) => writeFile(raw, "bytes"));
    const error = await failure(read(aggregate({ ada: raw })));
    expect(error).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/client "ada": .*no model/),
    });
    const missing = await failure(read(aggregate({ ada: join(folder, "missing.twire") })));
    expect(missing).toMatchObject({ code: "SOURCE_READ", message: expect.stringMatching(/client "ada": /) });
    const source = tensorsSource(update(1));
    expect(() => aggregate([source, source])).toThrow(/clients "0" and "1" are one source/);
    expect(() => aggregate([])).toThrow(/no model to aggregate/);
    expect(() => aggregate({})).toThrow(/no model to aggregate/);
    expect(() => aggregate(source as never)).toThrow(/a list, or a Map/);
    expect(() => aggregate(new Map([[1, update(1)]]) as never)).toThrow(/id is a string/);
  });

  test.each([
    [{ method: "mode" }, /method is/],
    [{ method: "median", weights: [1] }, /weights is for mean/],
    [{ method: "sum-mod-2^32", clipNorm: 1 }, /clipNorm is for/],
    [{ method: "median", trim: 0.1 }, /trim is for trimmed-mean/],
    [{ method: "trimmed-mean", trim: 0.5 }, /under 0.5, not 0.5/],
    [{ method: "trimmed-mean", trim: Number.NaN }, /not NaN/],
    [{ clipNorm: 0 }, /clipNorm is a positive number/],
    [{ integers: "sum" }, /integers is/],
    [{ accumulator: "f16" }, /accumulator is/],
    [{ nonFinite: "ignore" }, /nonFinite is/],
  ])("options that mean nothing are refused: %j", (options, words) => {
    expect(() => aggregate([update(1)], options as never)).toThrow(words);
  });
});
