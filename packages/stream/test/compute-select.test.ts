import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BufferPool, ChunkPlan, type ChunkRange, parseSafetensorsHeader } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { artifactSource, fromTensors, select, streamModel, tensorsSource } from "../src/index.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "../src/source/source.js";
import { artifact, bytesByName, folder, hasArtifact, map, names, received, tensors } from "./view-fixture.js";

hasArtifact();

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
