import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BufferPool,
  ChunkPlan,
  type ChunkRange,
  type DType,
  type FloatDType,
  type Loan,
  none,
  serializeSafetensorsHeader,
} from "@tensorwire/core";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aggregate,
  apply,
  artifactSource,
  BASE_KEY,
  cast,
  delta,
  fromTensors,
  listen,
  modelDigest,
  receiveModel,
  rename,
  type SourceLike,
  select,
  streamModel,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import { type EncodedSource, type ModelSource, READ_AHEAD_BYTES } from "../src/source/source.js";
import { readWhole } from "./source-reading.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
});
afterAll(() => rm(folder, { recursive: true }));

const f32 = (values: Iterable<number>, shape?: number[]) => {
  const data = Float32Array.from(values);
  return { dtype: "F32" as const, shape: shape ?? [data.length], data };
};
const wave = (length: number, step: number) => f32(Array.from({ length }, (_, i) => Math.sin(i * step) / 8));
const ids = { dtype: "I64", shape: [3], data: BigInt64Array.of(1n, -2n, 3n) } as const;

/** A model, and what was trained of it: small steps, and other integers. */
const base = { w: wave(50_000, 0.37), "layer.b": wave(9000, 0.11), ids } satisfies TensorMap;
const trained = {
  w: f32(base.w.data.map((x, i) => x + (i % 17) / 4096)),
  "layer.b": f32(base["layer.b"].data.map((x) => x * 1.25)),
  ids: { ...ids, data: BigInt64Array.of(7n, 8n, 9n) },
} satisfies TensorMap;

async function valuesOf(source: SourceLike, chunkBytes = 32_768): Promise<Map<string, Uint8Array>> {
  // What it is cast to nothing else is decoded, whatever it is.
  const plain = cast(source, {});
  const { tensors, loans } = await readWhole(plain, chunkBytes);
  expect(loans).toBe(0);
  return new Map(tensors);
}

const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);
const plainOf = (model: TensorMap) =>
  new Map(
    Object.entries(model).map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    ]),
  );
const artifactOf = async (name: string, model: SourceLike, options: object): Promise<string> => {
  const path = join(folder, name);
  await streamModel(model, path, options);
  return path;
};

/** A source that counts its calls, and may fail. */
function watched<S extends ModelSource | EncodedSource>(source: S, fails?: "open") {
  const calls = { open: 0, close: 0, read: 0, wanted: [] as (readonly ChunkRange[])[] };
  const { open, close } = source;
  const reads = "read" in source ? source.read : undefined;
  Object.assign(source, {
    open: () => {
      calls.open++;
      return fails === "open" ? Promise.reject(new Error("cannot")) : open.call(source);
    },
    close: () => {
      calls.close++;
      return close.call(source);
    },
    want: (runs: readonly ChunkRange[]) => void calls.wanted.push(runs),
    ...(reads && {
      read: (...args: Parameters<typeof reads>) => {
        calls.read++;
        return reads.apply(source, args);
      },
    }),
  });
  return { source, calls };
}

describe("a delta", () => {
  test("is the difference of floats, and the model's integers", async () => {
    const values = await valuesOf(delta(trained, base));
    expect(floats(values.get("w")!)).toEqual(base.w.data.map((y, i) => trained.w.data[i]! - y));
    expect(Buffer.compare(values.get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("names its base by the digest of its tensors, and keeps the model's metadata", async () => {
    const source = delta(tensorsSource(trained, { metadata: { num_examples: "12" } }), base);
    const info = await source.open();
    expect(Object.fromEntries(info.metadata)).toEqual({
      num_examples: "12",
      [BASE_KEY]: await modelDigest(base),
    });
    expect(info.header).toBeUndefined();
    await source.close();
  });

  test("applied to its base gives the model back", async () => {
    const values = await valuesOf(apply(base, delta(trained, base)));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
    expect(floats(values.get("layer.b")!)).toEqual(trained["layer.b"].data);
    expect(Buffer.compare(values.get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("applied is no delta any more, and has the model's metadata", async () => {
    const source = apply(base, delta(tensorsSource(trained, { metadata: { num_examples: "12" } }), base));
    expect(Object.fromEntries((await source.open()).metadata)).toEqual({ num_examples: "12" });
    await source.close();
  });

  test.each(["F16", "BF16"] as const)(
    "of %s in F32 gives back what its own dtype would round away",
    async (dtype) => {
      // No difference spans more bits than binary32 has, and all of them more than 16 bits have.
      const x = f32(Array.from({ length: 20_000 }, (_, i) => 0.5 + Math.sin(i * 0.013) / 8));
      const y = f32(Array.from({ length: 20_000 }, (_, i) => (i % 5) * 40 - 90));
      const model = () => cast({ x }, dtype);
      const other = () => cast({ x: y }, dtype);
      const halves = (values: Map<string, Uint8Array>) => new Uint16Array(values.get("x")!.slice().buffer);
      const exact = halves(await valuesOf(model()));
      const differing = async (source: SourceLike): Promise<number> => {
        const back = halves(await valuesOf(apply(other(), source)));
        return exact.filter((half, i) => half !== back[i]).length;
      };
      const wide = delta(model(), other(), { dtype: "F32" });
      expect((await wide.open()).tensors[0]!.dtype).toBe("F32");
      await wide.close();
      expect(await differing(delta(model(), other(), { dtype: "F32" }))).toBe(0);
      expect(await differing(delta(model(), other()))).toBeGreaterThan(1000);
    },
  );

  test("over F64 is computed in F64", async () => {
    const of = (values: number[]) => ({
      dtype: "F64" as const,
      shape: [values.length],
      data: Float64Array.from(values),
    });
    const values = await valuesOf(delta({ x: of([1, 2 ** -40]) }, { x: of([2 ** -50, 1]) }));
    expect([...new Float64Array(values.get("x")!.slice().buffer)]).toEqual([1 - 2 ** -50, 2 ** -40 - 1]);
  });

  test("of models in another order goes by names", async () => {
    const turned = Object.fromEntries(Object.entries(base).reverse()) as TensorMap;
    const values = await valuesOf(apply(turned, delta(trained, turned)));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
    expect(await modelDigest(turned)).toBe(await modelDigest(base));
  });

  test.each([
    ["a tensor too few", { w: base.w, ids }, /"layer\.b".*no such tensor/],
    [
      "a tensor too many",
      { ...base, more: { ...ids, data: BigInt64Array.of(4n, 5n, 6n) } },
      /"more".*no such tensor/,
    ],
    [
      "another shape",
      { ...base, w: { ...base.w, shape: [5, 10_000] } },
      /"w": F32 \[5, 10000\].*F32 \[50000\]/,
    ],
    [
      "another dtype",
      { ...base, ids: { dtype: "U64" as DType, shape: [3], data: new BigUint64Array(3) } },
      /"ids": U64 \[3\]/,
    ],
  ])("of a base with %s is refused before a chunk is read", async (_, other: TensorMap, message) => {
    for (const make of [
      (model: ModelSource, one: ModelSource) => delta(model, one),
      (model: ModelSource, one: ModelSource) => apply(one, model, { anyBase: true }),
    ]) {
      const [model, one] = [watched(tensorsSource(trained)), watched(tensorsSource(other))];
      const source = make(model.source, one.source);
      await expect(source.open()).rejects.toMatchObject({
        code: "SOURCE_MISMATCH",
        message: expect.stringMatching(message),
      });
      await source.close();
      await source.close();
      for (const { calls } of [model, one]) expect(calls).toMatchObject({ open: 1, close: 1, read: 0 });
    }
  });

  test("refuses raw files, digests that are none, and a base whose digest would be its only reading", async () => {
    const path = await artifactOf("x.bin.twire", join(import.meta.dirname, "compute-delta.test.ts"), {});
    for (const source of [delta(path, base), delta(base, path), cast(path, "F32"), apply(base, path)]) {
      await expect(source.open()).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /no model/ });
      await source.close();
    }
    expect(() => delta(trained, base, { baseDigest: "abc" })).toThrow(/64 hexadecimal/);
    expect(() => apply(base, trained, { baseDigest: `sha256:${"A".repeat(64)}` })).toThrow(/64 hexadecimal/);
    expect(() => delta(trained, base, { dtype: "F16" as "F32" })).toThrow(/dtype is F32/);
    const once = () => fromTensors([{ name: "x", dtype: "F32", shape: [1] }], [{ name: "x", ...f32([1]) }]);
    const refused = delta({ x: f32([3]) }, once());
    await expect(refused.open()).rejects.toThrow(/read only once.*give baseDigest/);
    await refused.close();
    const known = delta({ x: f32([3]) }, once(), { baseDigest: await modelDigest({ x: f32([1]) }) });
    expect(known.oneShot).toBe(true);
    expect(floats((await valuesOf(known)).get("x")!)).toEqual(Float32Array.of(2));
  });
});

describe("another base", () => {
  test("is refused, before a chunk of the delta is read, unless the caller says so", async () => {
    const other = { ...base, ids: { ...ids, data: BigInt64Array.of(0n, 0n, 0n) } };
    const update = watched(delta(trained, base));
    const source = apply(other, update.source);
    await expect(source.open()).rejects.toMatchObject({
      code: "BASE_MISMATCH",
      retryable: false,
      message: expect.stringContaining(await modelDigest(other)),
    });
    await source.close();
    expect(update.calls).toMatchObject({ open: 1, close: 1, read: 0 });
    const values = await valuesOf(apply(other, delta(trained, base), { anyBase: true }));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
  });

  test("is known by a digest that the caller has, without reading it", async () => {
    const digest = await modelDigest(base);
    const one = watched(tensorsSource(base));
    const source = apply(one.source, delta(trained, base, { baseDigest: digest }), { baseDigest: digest });
    await source.open();
    expect(one.calls.read).toBe(0);
    await source.close();
    const wrong = apply(base, delta(trained, base), { baseDigest: `sha256:${"0".repeat(64)}` });
    await expect(wrong.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await wrong.close();
  });

  test("a model that is no delta is refused", async () => {
    const source = apply(base, trained);
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_MISMATCH", message: /is no delta/ });
    await source.close();
  });
});

describe("a round", () => {
  // The server publishes at 4 bits. Its clients' base is what came of that, and not the server's own model.
  test("over sockets: the delta is of what both can decode, and comes back at 4 bits", async () => {
    const published = await artifactOf("round-7.twire", base, { codec: "normfloat4", chunkBytes: 65_536 });
    const received = join(folder, "round-7.safetensors");
    await send(artifactSource(published), { to: received });
    expect(await modelDigest(received)).toBe(await modelDigest(published));
    expect(await modelDigest(received)).not.toBe(await modelDigest(base));
    const update = join(folder, "update.twire");
    await send(delta(trained, received), { to: update }, { codec: "normfloat4", chunkBytes: 65_536 });
    // The server's own model is another base than the client had.
    const wrong = apply(base, update);
    await expect(wrong.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await wrong.close();
    const next = join(folder, "round-8.safetensors");
    await send(apply(published, update), { to: next });
    const [got, want] = [floats((await valuesOf(next)).get("w")!), trained.w.data];
    const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - want[i]!)), 0);
    const wholeAt4Bits = floats((await valuesOf(published)).get("w")!).reduce(
      (most, value, i) => Math.max(most, Math.abs(value - base.w.data[i]!)),
      0,
    );
    // What 4 bits leave out of a small step is small.
    expect(worst).toBeLessThan(wholeAt4Bits / 2);
    expect(Buffer.compare((await valuesOf(next)).get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("nests: an applied delta of views of casts", async () => {
    const wide = cast(
      rename(base, (name) => `m.${name}`),
      "F64",
    );
    const narrow = cast(
      rename(trained, (name) => `m.${name}`),
      "F64",
    );
    const both = apply(
      wide,
      delta(
        narrow,
        cast(
          rename(base, (name) => `m.${name}`),
          "F64",
        ),
      ),
    );
    const values = await valuesOf(select(both, ["m.w"]));
    expect(Float32Array.from(new Float64Array(values.get("m.w")!.slice().buffer))).toEqual(trained.w.data);
  });

  test("of several clients: the mean of their deltas is a delta of the same base", async () => {
    const published = await artifactOf("r1.twire", base, { codec: "blockwise8", chunkBytes: 65_536 });
    const trainedBy = (step: number) => ({
      ...base,
      w: f32(base.w.data.map((x, i) => x + (step * (i % 17)) / 4096)),
    });
    const steps = { ada: 1, bob: 3 };
    const updates = await Promise.all(
      Object.entries(steps).map(async ([id, step]) => {
        const source = delta(trainedBy(step), published);
        return [
          id,
          await artifactOf(`${id}.twire`, source, { codec: "linear8", chunkBytes: 65_536 }),
        ] as const;
      }),
    );
    const mean = (): ModelSource => aggregate(Object.fromEntries(updates));
    const next = floats((await valuesOf(apply(published, mean()))).get("w")!);
    const worst = next.reduce(
      (most, x, i) => Math.max(most, Math.abs(x - base.w.data[i]! - (2 * (i % 17)) / 4096)),
      0,
    );
    expect(worst).toBeLessThan(2e-4);
    // One with another base is not averaged with them, and nobody takes its mean for a delta.
    const other = await artifactOf("eve.twire", delta(trainedBy(2), base), {
      codec: "linear8",
      chunkBytes: 65_536,
    });
    const mixed = apply(published, aggregate({ ...Object.fromEntries(updates), eve: other }));
    await expect(mixed.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await mixed.close();
    // The whole way in one call: what has changed since the last model, of all clients, to whoever has that.
    const down = join(folder, "down.twire");
    const news = delta(apply(published, mean()), published);
    await send(news, { to: down }, { codec: "linear8" });
    const again = floats((await valuesOf(apply(published, down))).get("w")!);
    expect(again.reduce((most, x, i) => Math.max(most, Math.abs(x - next[i]!)), 0)).toBeLessThan(2e-4);
  });

  async function send(source: SourceLike, receiving: { to: string }, sending: object = {}): Promise<void> {
    const listener = await listen();
    try {
      const done = receiveModel(listener, receiving).done;
      const [sent] = await Promise.all([streamModel(source, listener.url, sending), done]);
      expect(sent.confirmed).toBe(true);
    } finally {
      await listener.close();
    }
  }
});

describe("what computed sources are made of", () => {
  test("is read in its own chunks, which must be the same size; other dtypes are cut as they come", async () => {
    const small = await artifactOf("small.twire", base, { chunkBytes: 32_768 });
    const large = await artifactOf("large.twire", trained, { chunkBytes: 65_536, codec: "float16" });
    const refused = delta(large, small, { baseDigest: `sha256:${"0".repeat(64)}` });
    await expect(refused.open()).rejects.toMatchObject({
      code: "SOURCE_MISMATCH",
      message: expect.stringMatching(
        /small\.twire" is in chunks of 32768 bytes, and .*large\.twire" of 65536/,
      ),
    });
    await refused.close();
    for (const dtype of ["F64", "BF16", "F16"] as const) {
      const source = cast(large, dtype);
      const values = await valuesOf(source);
      expect(source.chunkBytes).toBe(65_536);
      const plain = (await valuesOf(large)).get("w")!;
      const expected = new Uint8Array(values.get("w")!.length);
      none.decode({ name: "none" }, "F32", 50_000, plain, dtype, expected);
      expect(Buffer.compare(values.get("w")!, expected)).toBe(0);
    }
  });

  // Chunks of another dtype hold another number of elements, and three do not divide seven.
  test("lies across the chunks of a narrower dtype, each of which is read once", async () => {
    const path = await artifactOf("odd.twire", { w: wave(200_000, 0.01) }, { chunkBytes: 57_344 });
    const { source: inner, calls } = watched(select(artifactSource(path), ["w"]));
    let reads = 0;
    const { readEncoded } = inner;
    Object.assign(inner, {
      readEncoded: (...args: Parameters<typeof readEncoded>) => {
        reads++;
        return readEncoded.apply(inner, args);
      },
    });
    const source = cast(inner, "BF16");
    const { plan, tensors } = await readWhole(source, 57_344);
    expect([plan.chunks, reads]).toEqual([Math.ceil(200_000 / 28_672), Math.ceil(200_000 / 12_288)]);
    const expected = new Uint8Array(400_000);
    none.decode(
      { name: "none" },
      "F32",
      200_000,
      Buffer.from(wave(200_000, 0.01).data.buffer),
      "BF16",
      expected,
    );
    expect(Buffer.compare(tensors.get("w")!, expected)).toBe(0);
    expect(calls).toMatchObject({ open: 1, close: 1 });
  });

  test("is told what will be asked for, in its own chunks, if it is in the same order", async () => {
    const path = await artifactOf("want.twire", base, { chunkBytes: 32_768 });
    const turned = Object.fromEntries(Object.entries(base).reverse()) as TensorMap;
    const other = await artifactOf("turned.twire", turned, { chunkBytes: 32_768 });
    for (const [of, places] of [
      [path, true],
      [other, false],
    ] as const) {
      const model = watched(artifactSource(path));
      const one = watched(artifactSource(of));
      const source = delta(model.source, one.source, { baseDigest: `sha256:${"0".repeat(64)}` });
      const plan = new ChunkPlan((await source.open()).tensors, 32_768);
      source.want!([{ first: 2, count: plan.chunks - 2 }]);
      expect(model.calls.wanted).toEqual([[{ first: 2, count: plan.chunks - 2 }]]);
      // The integers are the model's.
      expect(one.calls.wanted).toEqual(places ? [[{ first: 2, count: plan.chunks - 3 }]] : []);
      await source.close();
    }
    const wide = watched(artifactSource(path));
    const source = cast(wide.source, "BF16");
    const plan = new ChunkPlan((await source.open()).tensors, 32_768);
    source.want!([{ first: 1, count: 1 }]);
    expect(plan.chunk(1)).toMatchObject({ tensor: 0, first: 16_384 });
    expect(wide.calls.wanted).toEqual([[{ first: 2, count: 2 }]]);
    await source.close();
  });

  test("is closed once each, also what was never opened, and whatever fails", async () => {
    for (const failing of [0, 1]) {
      const both = [trained, base].map((model, i) =>
        watched(tensorsSource(model), i === failing ? "open" : undefined),
      );
      const source = delta(both[0]!.source, both[1]!.source);
      await expect(source.open()).rejects.toThrow("cannot");
      await source.close();
      await source.close();
      expect(both.map(({ calls }) => calls.close)).toEqual([1, 1]);
    }
    const unopened = watched(tensorsSource(base));
    await cast(unopened.source, "F16").close();
    expect(unopened.calls).toMatchObject({ open: 0, close: 1 });
    const stuck = watched(tensorsSource(base));
    Object.assign(stuck.source, { close: () => Promise.reject(new Error("stuck")) });
    const other = watched(tensorsSource(trained));
    const source = delta(stuck.source, other.source);
    await expect(source.close()).rejects.toThrow("stuck");
    expect(other.calls.close).toBe(1);
  });

  test("is read in one place: a source in two is refused, and closed once", async () => {
    const closed: string[] = [];
    const one = (): ModelSource => {
      const source = tensorsSource({ w: { dtype: "F32", shape: [1], data: Float32Array.of(1) } });
      return Object.assign(source, { close: async () => void closed.push("one") });
    };
    const [twice, nested] = [one(), one()];
    for (const source of [delta(twice, twice), apply(nested, delta(one(), nested))]) {
      closed.length = 0;
      await expect(source.open()).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/one source in two places/),
      });
      await source.close();
      expect(closed.length).toBe(source.name.includes("with") ? 2 : 1);
    }
  });

  test("decides the version together: of one that nothing vouches for, nothing does", async () => {
    const [one, two] = await Promise.all([
      artifactOf("v1.twire", base, { chunkBytes: 32_768 }),
      artifactOf("v2.twire", trained, { chunkBytes: 32_768 }),
    ]);
    const token = async (source: ModelSource) => {
      await source.open();
      await source.close();
      return source.version;
    };
    const tokens = [
      await token(delta(two, one)),
      await token(delta(one, two)),
      await token(delta(two, one, { dtype: "F32" })),
      await token(apply(one, two, { anyBase: true })),
      await token(cast(one, "F16")),
      await token(cast(one, "BF16")),
    ];
    expect(new Set(tokens).size).toBe(tokens.length);
    for (const each of tokens) expect(each).toMatch(/^[0-9a-f]{32}$/);
    expect(await token(delta(two, one))).toBe(tokens[0]);
    expect(await token(delta(trained, one))).toBeUndefined();
  });

  // Four models deep, each tensor many times a chunk: what is in memory is chunks.
  test("takes chunks of the pool, and no more than it says, however large the tensors are", async () => {
    const large = (seed: number) => ({ w: wave(1 << 21, seed), v: wave(1 << 20, seed / 2) });
    const [one, two] = await Promise.all(
      [0.1, 0.2].map((seed, i) =>
        artifactOf(`large-${i}.twire`, large(seed), { chunkBytes: 1 << 20, codec: "blockwise8" }),
      ),
    );
    const source = apply(one!, delta(two!, one!));
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, source.chunkBytes!);
    const pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES));
    const { slabs, bytes } = source.memory!(plan);
    for (const chunk of plan.walk()) {
      const loan = await source.read(chunk, pool);
      expect(pool.loans).toBe(1);
      loan.release();
    }
    expect(plan.chunks).toBe(12);
    expect(bytes).toBe(0);
    expect(pool.heldBytes).toBeLessThanOrEqual((1 + slabs) * pool.slabBytes);
    expect(slabs).toBeLessThan(12);
    await source.close();
    expect(pool.loans).toBe(0);
  });

  test("gives back what it holds of a chunk when it is closed, and what was still being read then", async () => {
    const path = await artifactOf("held.twire", { w: wave(40_000, 0.1) }, { chunkBytes: 57_344 });
    const source = cast(path, "BF16");
    const plan = new ChunkPlan((await source.open()).tensors, source.chunkBytes!);
    const pool = new BufferPool(READ_AHEAD_BYTES);
    (await source.read(plan.chunk(0), pool)).release();
    // 28,672 elements lie in three chunks of 12,288, and some of the third are to come.
    expect(pool.loans).toBe(1);
    await source.close();
    expect(pool.loans).toBe(0);

    const slow: ModelSource = {
      name: "slow",
      chunkBytes: 32_768,
      open: async () => ({
        kind: "model",
        tensors: [{ name: "w", dtype: "F32", shape: [8192] }],
        metadata: new Map(),
      }),
      read: async ({ bytes }, lender) => {
        await closing.close();
        return lender.lend(bytes);
      },
      close: async () => {},
    };
    const closing = cast(slow, "F16");
    const { tensors } = await closing.open();
    const reading = closing.read(new ChunkPlan(tensors, 32_768).chunk(0), pool);
    await expect(reading).rejects.toMatchObject({ code: "ABORTED" });
    expect(pool.loans).toBe(0);
  });

  test("gives everything back where it fails in the middle of a chunk, or is closed then", async () => {
    const path = await artifactOf("failing.twire", base, { chunkBytes: 57_344 });
    for (const fail of [true, false]) {
      const inner = select(artifactSource(path), ["*"]);
      const { readEncoded } = inner;
      let reads = 0;
      let close: (() => Promise<void>) | undefined;
      Object.assign(inner, {
        readEncoded: async (...args: Parameters<typeof readEncoded>) => {
          if (++reads === 4) {
            if (fail) throw new Error("torn");
            await close!();
          }
          return readEncoded.apply(inner, args);
        },
      });
      const source = cast(inner, "F16");
      close = () => source.close();
      const plan = new ChunkPlan((await source.open()).tensors, source.chunkBytes!);
      const pool = new BufferPool(READ_AHEAD_BYTES);
      const loans: Loan[] = [];
      const reading = (async () => {
        for (const chunk of plan.walk()) loans.push(await source.read(chunk, pool));
      })();
      await expect(reading).rejects.toThrow(fail ? /torn/ : /./);
      for (const loan of loans) loan.release();
      await source.close();
      expect(pool.loans).toBe(0);
    }
  });
});

describe("cast", () => {
  test("goes by the first pattern that matches, and leaves the rest and all integers alone", async () => {
    const source = cast(base, { "layer.*": "F64", "*": "BF16" });
    const { tensors } = await source.open();
    expect(tensors.map(({ name, dtype }) => [name, dtype])).toEqual([
      ["w", "BF16"],
      ["layer.b", "F64"],
      ["ids", "I64"],
    ]);
    await source.close();
    const some = cast(base, { "layer.*": "F16" });
    expect((await some.open()).tensors.map(({ dtype }) => dtype)).toEqual(["F32", "F16", "I64"]);
    await some.close();
    const none = cast({}, "F16");
    expect((await none.open()).tensors).toEqual([]);
    await none.close();
  });

  test("to what no float dtype is, or by a pattern that matches nothing, is refused", async () => {
    expect(() => cast(base, "I64" as FloatDType)).toThrow(/F16, BF16, F32 or F64, not "I64"/);
    expect(() => cast(base, { "*": "F8_E4M3" as FloatDType })).toThrow(/not "F8_E4M3"/);
    const source = cast(base, { "*": "F16", nobody: "F32" });
    await expect(source.open()).rejects.toThrow(/"nobody" matches no tensor/);
    await source.close();
  });

  test("is what outputDtype makes at a receiver, infinities included", async () => {
    const x = f32([1e6, -1e6, 65_519, 65_520, 1 + 2 ** -11, 3.1e-8, Number.NaN, -0]);
    for (const dtype of ["F16", "BF16", "F64"] as const) {
      const values = await valuesOf(cast({ x }, dtype));
      const received = new Map<string, Uint8Array>();
      const path = await artifactOf(`${dtype}.twire`, { x }, {});
      for await (const { name, data } of receiveModel(path, { outputDtype: dtype })) received.set(name, data);
      expect(Buffer.compare(values.get("x")!, received.get("x")!)).toBe(0);
    }
  });
});

describe("properties", () => {
  const element = fc.float({
    noNaN: true,
    noDefaultInfinity: true,
    min: Math.fround(-1e30),
    max: Math.fround(1e30),
  });
  const model = fc.uniqueArray(
    fc.record({
      name: fc.string({ maxLength: 4 }),
      values: fc.array(element, { maxLength: 40 }),
      tall: fc.boolean(),
    }),
    {
      selector: ({ name }) => name,
      maxLength: 5,
    },
  );

  test("the digest is of the tensors, whatever file, codec, chunk size or order has them", async () => {
    await fc.assert(
      fc.asyncProperty(model, async (of) => {
        const infos = of.map(({ name, values, tall }) => ({
          name,
          ...f32(values, tall ? [values.length, 1] : undefined),
        }));
        const map = new Map(infos.map(({ name, ...value }) => [name, value]));
        const digest = await modelDigest(map);
        expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
        const turned = new Map([...map].reverse());
        const path = await artifactOf("property.twire", tensorsSource(turned, { metadata: { a: "b" } }), {
          chunkBytes: 40_960,
          codec: "lossless",
          minElements: 0,
          overwrite: true,
        });
        expect(await modelDigest(path)).toBe(digest);
        expect(await modelDigest(turned, { chunkBytes: 32_768 })).toBe(digest);
        expect(await modelDigest(fromTensors(infos, infos))).toBe(digest);
        if (infos.length === 0) return;
        const other = new Map(map).set(infos[0]!.name, f32([...infos[0]!.data, 1]));
        expect(await modelDigest(other)).not.toBe(digest);
      }),
      { numRuns: 25 },
    );
  });

  test("a delta gives the model back within two roundings, through any nesting of names", async () => {
    await fc.assert(
      fc.asyncProperty(model, fc.infiniteStream(element), async (of, drawn) => {
        const one = new Map(of.map(({ name, values }) => [name, f32(values)]));
        const two = new Map(of.map(({ name, values }) => [name, f32(values.map(() => drawn.next().value))]));
        const back = rename(
          apply(
            two,
            rename(
              rename(delta(one, two), (name) => `x${name}`),
              (name) => name.slice(1),
            ),
          ),
          {},
        );
        const values = of.length ? await valuesOf(back) : new Map<string, Uint8Array>();
        for (const [name, { data }] of one) {
          floats(values.get(name)!).forEach((value, i) => {
            const y = two.get(name)!.data[i]!;
            const bound = 2 ** -24 * (Math.abs(data[i]! - y) + Math.abs(value));
            expect(Math.abs(value - data[i]!)).toBeLessThanOrEqual(bound);
          });
        }
      }),
      { numRuns: 40 },
    );
  });
});

test("the header of a file is left out of whatever is computed of it", async () => {
  const { writeFile } = await import("node:fs/promises");
  const path = join(folder, "header.safetensors");
  const infos = Object.entries(base).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  await writeFile(path, Buffer.concat([serializeSafetensorsHeader(infos).bytes, ...plainOf(base).values()]));
  for (const source of [cast(path, "F16"), delta(path, path), apply(path, base, { anyBase: true })]) {
    expect((await source.open()).header).toBeUndefined();
    await source.close();
  }
});
