import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { aggregate, BASE_KEY, type TensorMap, tensorsSource } from "../src/index.js";
import { CHUNK, folder, hasFolder, pack, path, read, update, updateOf } from "./aggregate-fixture.js";
import { failure } from "./sink-fixture.js";

hasFolder();

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
