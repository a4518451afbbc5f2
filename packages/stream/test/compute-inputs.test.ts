import { join } from "node:path";
import { ChunkPlan, none, serializeSafetensorsHeader } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { apply, artifactSource, cast, delta, select, type TensorMap, tensorsSource } from "../src/index.js";
import type { ModelSource } from "../src/source/source.js";
import { artifactOf, base, folder, hasFolder, trained, valuesOf, watched, wave } from "./delta-fixture.js";
import { readWhole } from "./source-reading.js";

hasFolder();

const plainOf = (model: TensorMap) =>
  new Map(
    Object.entries(model).map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    ]),
  );

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
