import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferPool, ChunkPlan, type ChunkRange, parseSafetensorsHeader } from "@tensorwire/core";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  artifactSource,
  fromTensors,
  receiveModel,
  rename,
  select,
  streamModel,
  tensorsSource,
} from "../src/index.js";
import { memoryChannelPair } from "../src/channel/memory.js";
import { mappedRuns } from "../src/compute/chunk-runs.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "../src/source/source.js";
import { type SampleTensor, sampleTensors } from "../src/testing/index.js";

const tensors = sampleTensors();
const names = tensors.map(({ name }) => name);
const map = new Map(tensors.map(({ name, ...tensor }) => [name, tensor]));
let folder: string;
let artifact: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  artifact = join(folder, "model.twire");
  await streamModel(map, artifact, { codec: "normfloat4", chunkBytes: 32_768, integrity: "sha256" });
});
afterAll(() => rm(folder, { recursive: true }));

/** Brings a source to the other end of a channel. */
async function received(source: ModelSource | EncodedSource, options: object = {}): Promise<SampleTensor[]> {
  const [here, there] = memoryChannelPair();
  const sending = streamModel(source, here, options);
  // One that cannot be opened never says a word.
  sending.catch((error) => here.close(error));
  const got: SampleTensor[] = [];
  const receiving = (async () => {
    for await (const tensor of receiveModel(there))
      got.push({ ...tensor, data: new Uint8Array(tensor.data) });
  })();
  const failed = await Promise.allSettled([sending, receiving]);
  for (const result of failed) if (result.status === "rejected") throw result.reason;
  return got;
}

const bytesByName = (of: readonly SampleTensor[]) =>
  new Map(of.map(({ name, data }) => [name, Buffer.from(data)]));

describe("select", () => {
  test("has the tensors that match, in the model's order", async () => {
    const source = select(map, ["weight", "*s*", "e*"], { except: ["last"] });
    const chosen = ["scalar", "empty", "weight", "ids", "mask", "eighth"];
    const got = await received(source, { chunkBytes: 32_768 });
    expect(got.map(({ name }) => name)).toEqual(chosen);
    for (const { name, data } of got) expect(Buffer.compare(data, map.get(name)!.data), name).toBe(0);
  });

  test("of an artifact has its chunks as they are, and decodes none", async () => {
    const whole = bytesByName(await received(artifactSource(artifact)));
    const source = select(artifactSource(artifact), ["weight", "double", "ids"]);
    const manifest = await source.open();
    expect(manifest.tensors.map(({ name, codec }) => [name, codec.name])).toEqual([
      ["weight", "normfloat4"],
      ["ids", "none"],
      ["double", "normfloat4"],
    ]);
    const inner = artifactSource(artifact);
    const innerPlan = new ChunkPlan((await inner.open()).tensors, 32_768);
    const plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    const pool = new BufferPool(1 << 20);
    for (const chunk of plan.walk()) {
      const at = names.indexOf(manifest.tensors[chunk.tensor]!.name);
      const own = await inner.readEncoded(innerPlan.chunk(innerPlan.range(at).first + chunk.index), pool);
      const { record, loan } = await source.readEncoded(chunk, pool);
      expect(record).toEqual(own.record);
      expect(Buffer.compare(loan.bytes, own.loan.bytes)).toBe(0);
      loan.release();
      own.loan.release();
    }
    await source.verify?.();
    await Promise.all([source.close(), inner.close()]);
    expect(pool.loans).toBe(0);
    const summary = await received(select(artifactSource(artifact), ["weight", "double", "ids"]));
    for (const { name, data } of summary) expect(Buffer.compare(data, whole.get(name)!), name).toBe(0);
  });

  test("of a path is what the path is", async () => {
    expect(isEncodedSource(select(artifact, ["weight"]))).toBe(true);
    expect(isEncodedSource(select(join(folder, "x.safetensors"), ["weight"]))).toBe(false);
    const got = await received(select(artifact, ["weight"]), { codec: "float16" });
    expect(got.map(({ name }) => name)).toEqual(["weight"]);
  });

  test("leaves the file's own header out, and keeps its metadata", async () => {
    const path = join(folder, "meta.safetensors");
    const header =
      '{"__metadata__":{"a":"b"},"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}';
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await writeFile(path, Buffer.concat([length, Buffer.from(`${header}abc`)]));
    expect(parseSafetensorsHeader(Buffer.from(header), 8 + header.length + 3).tensors).toHaveLength(2);
    const source = select(path, ["y"]) as ModelSource;
    const info = await source.open();
    expect(info).toEqual({
      kind: "model",
      tensors: [{ name: "y", dtype: "U8", shape: [1] }],
      metadata: new Map([["a", "b"]]),
    });
    await source.close();
  });

  test("has a version of its own, by what it has of which state", async () => {
    const token = async (source: ModelSource | EncodedSource): Promise<string | undefined> => {
      await source.open();
      await source.close();
      return source.version;
    };
    const all = await token(artifactSource(artifact));
    const some = await token(select(artifact, ["weight"]));
    expect(some).toMatch(/^[0-9a-f]{32}$/);
    expect(some).not.toBe(all);
    expect(await token(select(artifactSource(artifact), ["w*"]))).toBe(some);
    expect(await token(select(artifact, ["mask"]))).not.toBe(some);
    expect(await token(select(map, ["mask"]))).toBeUndefined();
  });

  test("of a source that is read once is read once", async () => {
    const source = select(fromTensors(tensors, tensors), ["weight", "double"]);
    expect(source.oneShot).toBe(true);
    const got = await received(source, { chunkBytes: 32_768 });
    expect(got.map(({ name }) => name)).toEqual(["weight", "double"]);
    for (const { name, data } of got) expect(Buffer.compare(data, map.get(name)!.data), name).toBe(0);
    await expect(streamModel(source, "ws://127.0.0.1:1", { retry: true } as never)).rejects.toThrow(
      /only once/,
    );
  });

  test.each([
    [["wait"], undefined, /"wait" matches no tensor of "tensors in memory"/],
    [["*"], ["frozen.*"], /"frozen\.\*" matches no tensor/],
    [["*"], ["*"], /nothing is left/],
  ])("%j except %j is refused, and what was opened is closed", async (patterns, except, message) => {
    for (const [inner, closed] of [watched(fromMap()), watched(artifactSource(artifact))] as const) {
      const expected = isEncodedSource(inner)
        ? String(message).includes("memory")
          ? /matches no/
          : message
        : message;
      await expect(received(select(inner, patterns, { except }))).rejects.toThrow(expected);
      expect(closed()).toBe(1);
    }
  });

  test("refuses a raw file", async () => {
    const path = join(folder, "bytes.bin");
    await writeFile(path, "abc");
    await expect(received(select(path, ["*"]))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await streamModel(path, join(folder, "bytes.twire"));
    await expect(received(select(join(folder, "bytes.twire"), ["*"]))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });

  test("is not known to have a value that is not finite where what it is of has one", async () => {
    for (const [finite, expected] of [
      [false, undefined],
      [true, true],
      [undefined, undefined],
    ]) {
      for (const whole of [tensorsSource(map), artifactSource(artifact)]) {
        Object.defineProperty(whole, "finite", { value: finite });
        const view: ModelSource | EncodedSource = select(whole as ModelSource, ["weight"]);
        await view.open();
        expect(view.finite).toBe(expected);
        await view.close();
      }
    }
  });

  test("says what it wants of what it is made of", async () => {
    const wanted: (readonly ChunkRange[])[] = [];
    const inner = Object.assign(artifactSource(artifact), {
      want: (runs: readonly ChunkRange[]) => void wanted.push(runs),
    });
    const source = select(inner, ["weight", "half", "double"]);
    const manifest = await source.open();
    const plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    const whole = new ChunkPlan(tensors, manifest.chunkBytes);
    source.want!([{ first: 1, count: plan.chunks - 1 }]);
    const [weight, half, double] = ["weight", "half", "double"].map((name) =>
      whole.range(names.indexOf(name)),
    );
    expect(wanted).toEqual([
      [
        { first: weight!.first + 1, count: weight!.count - 1 + half!.count },
        { first: double!.first, count: double!.count },
      ],
    ]);
    await source.close();
  });
});

describe("rename", () => {
  const NEW = { weight: "w", double: "weight" };

  test("gives new names to the same elements, encoded or not", async () => {
    for (const given of [rename(map, NEW), rename(artifactSource(artifact), NEW)]) {
      const got = bytesByName(
        await received(given, { chunkBytes: isEncodedSource(given) ? undefined : 32_768 }),
      );
      const plain = bytesByName(
        await received(isEncodedSource(given) ? artifactSource(artifact) : select(map, ["*"])),
      );
      expect([...got.keys()]).toEqual(
        names.map((name) => (name === "weight" ? "w" : name === "double" ? "weight" : name)),
      );
      expect(got.get("w")).toEqual(plain.get("weight"));
      expect(got.get("weight")).toEqual(plain.get("double"));
    }
  });

  test.each([
    [{ nobody: "x" }, /no such tensor/],
    [{ weight: "double" }, /"double", which is that of|which is that of "weight"/],
    [() => "same", /which is that of "scalar"/],
    [() => 1, /no string/],
  ])("%# is refused", async (names, message) => {
    await expect(received(rename(map, names as never))).rejects.toThrow(message);
  });

  test("takes a map, an object or a function", () => {
    expect(() => rename(map, 5 as never)).toThrow(/a map, an object or a function/);
  });
});

describe("properties of views", () => {
  const infos = fc.uniqueArray(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 8 }),
      length: fc.nat({ max: 20_000 }),
    }),
    { selector: ({ name }) => name, minLength: 1, maxLength: 8 },
  );
  const modelOf = (of: readonly { name: string; length: number }[]) =>
    new Map(
      of.map(({ name, length }, t) => {
        const data = Float32Array.from({ length }, (_, i) => i + t / 8);
        return [name, { dtype: "F32" as const, shape: [length], data }];
      }),
    );
  const read = async (source: ModelSource | EncodedSource) =>
    new Map(
      (await received(source, { chunkBytes: 32_768 })).map(({ name, data }) => [
        name,
        Buffer.from(data).toString("hex"),
      ]),
    );

  test("what renames back gives the model that was renamed", async () => {
    await fc.assert(
      fc.asyncProperty(infos, fc.string({ minLength: 1, maxLength: 3 }), async (of, prefix) => {
        const there = rename(modelOf(of), (name) => prefix + name);
        const back = rename(there as ModelSource, (name) => name.slice(prefix.length));
        expect(await read(back)).toEqual(await read(rename(modelOf(of), {})));
      }),
      { numRuns: 20 },
    );
  });

  test("two selections that leave nothing out have all of it between them, each tensor as it is", async () => {
    await fc.assert(
      fc.asyncProperty(infos, fc.nat(), async (of, cut) => {
        const model = modelOf(of);
        const renamed = [...model].map(
          ([, value], i) => [`${i < cut % (of.length + 1) ? "a" : "b"}.${i}`, value] as const,
        );
        const whole = new Map(renamed);
        const parts = await Promise.all(
          ["a.*", "b.*"].map((pattern) =>
            renamed.some(([name]) => name.startsWith(pattern[0]!))
              ? read(select(whole, [pattern]))
              : new Map(),
          ),
        );
        expect(new Map(parts.flatMap((part) => [...part]))).toEqual(await read(select(whole, ["*"])));
      }),
      { numRuns: 20 },
    );
  });

  test("runs are mapped chunk by chunk", () => {
    fc.assert(
      fc.property(
        infos,
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        fc.infiniteStream(fc.boolean()),
        (of, kept, drawn) => {
          const all = of.map(({ name, length }) => ({ name, dtype: "F32" as const, shape: [length] }));
          const places = all.map((_, i) => i).filter((i) => kept[i]);
          const to = new ChunkPlan(all, 32_768);
          const from = new ChunkPlan(
            places.map((i) => all[i]!),
            32_768,
          );
          const wanted = Array.from({ length: from.chunks }, () => drawn.next().value);
          const runs = wanted.flatMap((is, first) => (is ? [{ first, count: 1 }] : []));
          const expected = [...from.walk(runs)].map(
            ({ tensor, index }) => to.range(places[tensor]!).first + index,
          );
          const got = [...to.walk(mappedRuns(runs, from, to, places))].map(({ ordinal }) => ordinal);
          expect(got).toEqual(expected);
        },
      ),
    );
  });
});

function fromMap(): ModelSource {
  return select(map, ["*"]);
}

/** A source that counts how often it is closed. */
function watched<S extends ModelSource | EncodedSource>(source: S): readonly [S, () => number] {
  let closed = 0;
  const close = source.close.bind(source);
  const counting = (): Promise<void> => {
    closed++;
    return close();
  };
  return [Object.assign(source, { close: counting }), () => closed];
}
