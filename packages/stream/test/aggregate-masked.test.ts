import { randomFillSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { aggregate, fromLinearCodes, linearCodes, type TensorMap } from "../src/index.js";
import { floats, hasFolder, pack, path, read, values } from "./aggregate-fixture.js";
import { failure } from "./sink-fixture.js";

hasFolder();

const of = (data: Float32Array): TensorMap => ({ w: { dtype: "F32", shape: [data.length], data } });

describe("a round under masks", () => {
  const N = 10_007;
  const clients = 6;
  const scale = 2 ** -20;

  async function codesOf(client: number): Promise<Uint32Array> {
    const { tensors } = await read(linearCodes(of(values(client, N)), { scale, ring: 32, bits: 20 }));
    return new Uint32Array(tensors.get("w")!.slice().buffer);
  }
  const model = (data: Uint32Array): TensorMap => ({ w: { dtype: "U32", shape: [N], data } });
  const sum = (sources: readonly TensorMap[] | readonly string[]) =>
    fromLinearCodes(aggregate(sources, { method: "sum-mod-2^32" }), { scale, clients });

  test("gives what one without masks gives: the mean, as near as codes are", async () => {
    const codes = await Promise.all(Array.from({ length: clients }, (_, client) => codesOf(client)));
    const masks = Array.from({ length: clients }, () => new Uint32Array(N));
    for (let i = 0; i < clients; i++) {
      for (let j = i + 1; j < clients; j++) {
        randomFillSync(new Uint32Array(N)).forEach((word, k) => {
          masks[i]![k]! += word;
          masks[j]![k]! -= word;
        });
      }
    }
    const masked = codes.map((each, client) => each.map((code, k) => code + masks[client]![k]!));
    const plain = await read(sum(codes.map(model)));
    // What clients send are artifacts.
    const paths = await Promise.all(masked.map((data) => pack(path(), model(data))));
    const opened = await read(sum(paths));
    expect(Buffer.compare(opened.tensors.get("w")!, plain.tensors.get("w")!)).toBe(0);

    const mean = floats(
      (await read(aggregate(codes.map((_, client) => of(values(client, N)))))).tensors.get("w")!,
    );
    const found = floats(opened.tensors.get("w")!);
    const worst = found.reduce((most, value, i) => Math.max(most, Math.abs(value - mean[i]!)), 0);
    expect(worst).toBeLessThanOrEqual(scale / 2 + 2 ** -26);
    // One client's masks alone are still in what is left of the others.
    const one = floats((await read(sum(paths.slice(1)))).tensors.get("w")!);
    expect(one.filter((value, i) => Math.abs(value - mean[i]!) < 1).length).toBeLessThan(N / 100);
  });

  test("sums modulo 2^32, of U32 and I32 alike", async () => {
    const sums = async (dtype: "U32" | "I32", ...words: number[]) => {
      const sources = words.map(
        (word): TensorMap => ({ w: { dtype, shape: [1], data: Uint32Array.of(word) } }),
      );
      const { tensors } = await read(aggregate(sources, { method: "sum-mod-2^32" }));
      return new Uint32Array(tensors.get("w")!.slice().buffer)[0];
    };
    expect(await sums("U32", 0xffffffff, 0xffffffff, 5)).toBe(3);
    expect(await sums("I32", 0x80000000, 0x80000000, 1)).toBe(1);
  });

  test("takes nothing but codes, and leaves nobody out", async () => {
    const floating = aggregate([of(values(1)), of(values(2))], { method: "sum-mod-2^32" });
    const error = await failure(read(floating));
    expect(error).toMatchObject({
      code: "INVALID_ARGUMENT",
      tensor: "w",
      message: expect.stringContaining("U32"),
    });
    const report = aggregate([model(new Uint32Array(N)), model(new Uint32Array(N))], {
      method: "sum-mod-2^32",
    });
    await read(report);
    expect(report.report!.taken.map(({ weight }) => weight)).toEqual([1, 1]);
  });

  test("opens to F64 of what is not cut yet; of artifacts it says what to do", async () => {
    const codes = [await codesOf(1), await codesOf(2)];
    const wide = { scale, clients: 2, dtype: "F64" } as const;
    const summed = () => aggregate(codes.map(model), { method: "sum-mod-2^32" });
    expect((await read(fromLinearCodes(summed(), wide))).tensors.get("w")).toHaveLength(8 * N);
    const paths = await Promise.all(codes.map((data) => pack(path(), model(data))));
    const error = await failure(read(fromLinearCodes(aggregate(paths, { method: "sum-mod-2^32" }), wide)));
    expect(error).toMatchObject({
      code: "INVALID_ARGUMENT",
      tensor: "w",
      message: expect.stringMatching(/as wide/),
    });
  });
});
