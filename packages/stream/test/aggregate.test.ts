import { bytesOf, type ChunkRange, type FloatDType } from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  aggregate,
  apply,
  delta,
  type EncodedSource,
  fromTensors,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import {
  CHUNK,
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
