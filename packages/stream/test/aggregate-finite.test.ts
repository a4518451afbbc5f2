import { readFile, writeFile } from "node:fs/promises";
import {
  bytesOf,
  type Chunk,
  defaultCodecs,
  type DType,
  encodeFrame,
  encodeManifest,
  encodeTotals,
  FrameType,
  type Tensor,
  TransferDigest,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  aggregate,
  type AggregateOptions,
  fromTensors,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import type { EncodedSource } from "../src/source/source.js";
import { elementsOf, hasFolder, pack, path, read, update, values } from "./aggregate-fixture.js";
import { artifactBytes, artifactFrames, dataFrame } from "./artifact-file.js";
import { failure } from "./sink-fixture.js";

hasFolder();

/** A model with one value that is not finite, in the second chunk of its first tensor. */
function broken(client: number, value: number): TensorMap {
  const model = update(client);
  const data = values(client);
  data[9000] = value;
  return { ...model, weight: { ...model.weight!, data } };
}

/** An artifact whose last chunk has other scales than its values have. */
async function hostile(codec: string, scale: number, dtype: DType = "F32"): Promise<string> {
  const data = elementsOf(values(9), dtype);
  const tensor: Tensor = { name: "w", dtype, shape: [10_007], data };
  const at = path();
  const spec = defaultCodecs.resolve(codec);
  const { manifest, plan, ...made } = artifactFrames({ tensors: [tensor], codec: spec });
  const digest = new TransferDigest(plan);
  // Put together anew: to everything but a look at its values it is an artifact like any other.
  const frames = made.payloads.map((payload, i) => {
    if (i === plan.chunks - 1) new DataView(payload.buffer).setFloat32(0, scale, true);
    const record = { ...made.records[i]!, hash: xxh64(payload) };
    digest.add(i, record.codec, record.hash);
    return dataFrame([record], [payload]);
  });
  const { chunks, bytes: sourceBytes } = plan;
  const totals = { digest: digest.transfer(encodeManifest(manifest), 1), chunks, sourceBytes, clamped: 0 };
  const end = encodeFrame(FrameType.END, 1, 0, encodeTotals(totals));
  await writeFile(at, artifactBytes([...made.frames.slice(0, 2), ...frames, end]));
  return at;
}

const methods: readonly AggregateOptions[] = [
  {},
  { accumulator: "f32" },
  { method: "trimmed-mean" },
  { method: "median" },
  { clipNorm: 1 },
];

describe("a client with a value that is not finite", () => {
  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "is left out before the first chunk, whole: %d",
    async (value) => {
      for (const options of methods) {
        // Only of what is cut already is it known which chunk it is.
        for (const cut of [false, true]) {
          const make = async (model: TensorMap) => (cut ? pack(path(), model, "normfloat4") : model);
          const good = { a: await make(update(1)), c: await make(update(3)) };
          const mean = aggregate({ ...good, b: await make(broken(2, value)) }, options);
          const { tensors } = await read(mean);
          expect(mean.report!.excluded).toEqual([
            { id: "b", reason: "a value is NaN or infinite", tensor: "weight", chunk: cut ? 1 : undefined },
          ]);
          expect(mean.report!.taken.map(({ weight }) => weight)).toEqual([0.5, 0.5]);
          expect(tensors).toEqual((await read(aggregate(good, options))).tensors);
        }
      }
    },
  );

  test("ends it all where that is asked for, with client, tensor and chunk", async () => {
    for (const options of methods) {
      const mean = aggregate({ a: update(1), b: broken(2, Number.NaN) }, { ...options, nonFinite: "error" });
      const error = await failure(read(mean));
      expect(error).toMatchObject({ code: "VALUE_NOT_FINITE", tensor: "weight" });
      expect(error.message).toMatch(/^tensor "weight": client "b": a value is NaN or infinite/);
    }
  });

  test("leaves nobody where it is the only one", async () => {
    const mean = aggregate({ a: broken(1, Number.NaN), b: broken(2, Number.NaN) });
    const error = await failure(read(mean));
    expect(error.code).toBe("VALUE_NOT_FINITE");
    expect(error.message).toMatch(/no client is left to aggregate: of "a" .*, and 1 more/);
  });

  test.each([
    ["normfloat4", Number.NaN],
    ["normfloat4", Number.POSITIVE_INFINITY],
    ["blockwise8", Number.NEGATIVE_INFINITY],
    ["float4", Number.NaN],
    ["linear8", Number.NaN],
  ])("is left out by its scales alone: %s, %d", async (codec, scale) => {
    const good = await pack(path(), { w: { dtype: "F32", shape: [10_007], data: values(1) } }, codec);
    for (const options of methods) {
      const mean = aggregate({ bad: await hostile(codec, scale), good }, options);
      const { tensors } = await read(mean);
      expect(mean.report!.excluded).toMatchObject([{ id: "bad", tensor: "w", chunk: 1 }]);
      expect(tensors).toEqual((await read(aggregate([good], options))).tensors);
    }
  });

  test("is left out where its scales are finite, and its values not as their dtype", async () => {
    const data = elementsOf(values(1), "F16");
    const good = { w: { dtype: "F16", shape: [10_007], data } } as const;
    for (const options of methods) {
      const mean = aggregate({ bad: await hostile("normfloat4", 1e30, "F16"), good }, options);
      await read(mean);
      expect(mean.report!.excluded, JSON.stringify(options)).toMatchObject([{ id: "bad", tensor: "w" }]);
    }
  });

  test("is not looked for where a source knows", async () => {
    const at = await pack(path(), broken(1, Number.NaN), "none");
    const knowing = (finite: boolean): EncodedSource & { reads: Chunk[] } => {
      const artifact = artifactSource(at);
      const reads: Chunk[] = [];
      return {
        name: at,
        finite,
        reads,
        open: () => artifact.open(),
        close: () => artifact.close(),
        readEncoded(chunk, pool) {
          reads.push(chunk);
          return artifact.readEncoded(chunk, pool);
        },
      };
    };
    const bad = knowing(false);
    const mean = aggregate({ bad, good: await pack(path(), update(2)) });
    await read(mean);
    expect(mean.report!.excluded).toMatchObject([
      { id: "bad", reason: expect.stringContaining("source says") },
    ]);
    expect(bad.reads).toEqual([]);
    // Who says so and is wrong ends it, and does no harm.
    const wrong = knowing(true);
    const opened = aggregate({ wrong, good: await pack(path(), update(2)) });
    await opened.open();
    expect(wrong.reads).toEqual([]);
    await opened.close();
    const error = await failure(
      read(aggregate({ wrong: knowing(true), good: await pack(path(), update(2)) })),
    );
    expect(error).toMatchObject({ code: "VALUE_NOT_FINITE", tensor: "weight", chunk: 1 });
    expect(error.message).toContain('client "wrong"');
  });

  test("that is read once ends it: it cannot be looked through", async () => {
    const tensors = Object.entries(broken(1, Number.NaN)).map(([name, tensor]) => ({ name, ...tensor }));
    const error = await failure(read(aggregate({ a: fromTensors(tensors, tensors), b: update(2) })));
    expect(error).toMatchObject({ code: "VALUE_NOT_FINITE", tensor: "weight", chunk: 1 });
    expect(error.message).toContain('client "a"');
  });

  test("within an aggregate is left out there", async () => {
    const inner = aggregate({ a: update(1), b: broken(2, Number.NaN) });
    const outer = aggregate({ inner, c: update(3) });
    const { tensors } = await read(outer);
    expect(inner.report!.excluded).toHaveLength(1);
    expect(outer.report!.excluded).toEqual([]);
    expect(tensors).toEqual((await read(aggregate([update(1), update(3)]))).tensors);
  });
});

test("a mean of finite values that no element holds is an error", async () => {
  const most = (): TensorMap => ({ w: { dtype: "F32", shape: [2], data: Float32Array.of(3.4028234e38, 1) } });
  // In f32 a tenth is rounded up, and so is what ten of them make.
  const clients = Array.from({ length: 10 }, most);
  const mean = aggregate(clients, { accumulator: "f32" });
  const error = await failure(read(mean));
  expect(error).toMatchObject({ code: "VALUE_NOT_FINITE", tensor: "w", chunk: 0 });
  expect(error.message).toMatch(/out of the range of F32: sum in f64/);
  const { tensors } = await read(aggregate(clients));
  expect(tensors.get("w")).toEqual(bytesOf(Float32Array.of(3.4028234e38, 1)));
});

test("an artifact that is damaged ends it, with the client", async () => {
  const at = await pack(path(), update(1), "normfloat4");
  const bytes = await readFile(at);
  const damaged = Buffer.from(bytes);
  damaged.writeUInt8(damaged.readUInt8(bytes.length >> 1) ^ 0x40, bytes.length >> 1);
  await writeFile(at, damaged);
  const error = await failure(read(aggregate({ good: tensorsSource(update(2)), bad: at })));
  expect(error.message).toContain('client "bad"');
  expect(["SOURCE_INVALID", "CHUNK_CORRUPT"]).toContain(error.code);
});
