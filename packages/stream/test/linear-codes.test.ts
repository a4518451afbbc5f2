import { randomFillSync } from "node:crypto";
import { bytesOf, defaultCodecs, serializeSafetensorsHeader, xxh64 } from "@tensorwire/core";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  fromLinearCodes,
  linearCodes,
  type ModelSource,
  memoryChannelPair,
  receiveModel,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { readWhole } from "./source-reading.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-codes-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const N = 10_007;
const update = (client: number): Float32Array =>
  new Float32Array(N).map((_, i) => Math.sin(i * 12.9898 + client) * 0.02 * (1 + (i % 7)));
const modelOf = (data: Float32Array): TensorMap => ({ w: { dtype: "F32", shape: [data.length], data } });

async function read(source: ModelSource, chunkBytes = 32_768, name = "w"): Promise<Uint8Array> {
  const { tensors, loans } = await readWhole(source, chunkBytes);
  expect(loans).toBe(0);
  return tensors.get(name)!;
}

const u32 = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);

describe("secure aggregation", () => {
  const clients = 8;
  const scale = 2 ** -16;

  /** A mask for each client, of random words, that cancel modulo 2^32. */
  function masks(): Uint32Array[] {
    const made = Array.from({ length: clients }, () => new Uint32Array(N));
    for (let i = 0; i < clients; i++) {
      for (let j = i + 1; j < clients; j++) {
        // What two clients have agreed on: one adds it, the other takes it away.
        const shared = randomFillSync(new Uint32Array(N));
        shared.forEach((word, k) => {
          made[i]![k]! += word;
          made[j]![k]! -= word;
        });
      }
    }
    return made;
  }

  test("the masked codes of all clients add up to the sum of their codes, and stand for its mean", async () => {
    const plain = new Uint32Array(N);
    const sum = new Uint32Array(N);
    const secret = masks();
    for (let client = 0; client < clients; client++) {
      const codes = u32(await read(linearCodes(modelOf(update(client)), { scale, ring: 32 })));
      const masked = codes.map((code, k) => code + secret[client]![k]!);
      // Nothing of a client's values is left to be seen.
      expect(masked.filter((code, k) => code === codes[k]!).length).toBeLessThan(10);
      masked.forEach((code, k) => void (sum[k]! += code));
      codes.forEach((code, k) => void (plain[k]! += code));
    }
    expect(Buffer.compare(bytesOf(sum), bytesOf(plain))).toBe(0);

    const sums: TensorMap = { w: { dtype: "U32", shape: [N], data: sum } };
    const mean = new Float64Array(
      (await read(fromLinearCodes(sums, { scale, clients, dtype: "F64" }))).slice().buffer,
    );
    const updates = Array.from({ length: clients }, (_, client) => update(client));
    let worst = 0;
    for (let k = 0; k < N; k++) {
      const exact = updates.reduce((total, each) => total + each[k]!, 0) / clients;
      worst = Math.max(worst, Math.abs(exact - mean[k]!));
    }
    expect(worst).toBeLessThanOrEqual(scale / 2);
    expect(worst).toBeGreaterThan(scale / 16);
  });

  test("stochastic rounding has no bias: the mean comes nearer with the number of clients", async () => {
    const coarse = 0.05;
    const data = update(3);
    const total = new Float64Array(N);
    const errors: number[] = [];
    for (let client = 1; client <= 64; client++) {
      const seed = client.toString(16).padStart(16, "0");
      const codes = linearCodes(modelOf(data), { scale: coarse, ring: 32, rounding: "stochastic", seed });
      const values = new Float32Array(
        (
          await read(
            fromLinearCodes({ w: { dtype: "U32", shape: [N], data: await read(codes) } }, { scale: coarse }),
          )
        ).slice().buffer,
      );
      values.forEach((value, k) => void (total[k]! += value));
      if (client === 4 || client === 64) {
        errors.push(
          Math.sqrt(total.reduce((sum, value, k) => sum + (value / client - data[k]!) ** 2, 0) / N),
        );
      }
    }
    // One part in four, as 1/√N says.
    expect(errors[0]! / errors[1]!).toBeGreaterThan(3.5);
    expect(errors[0]! / errors[1]!).toBeLessThan(4.5);
  });
});

test("the same codes from every chunk size, dtype and place", async () => {
  const data = update(1);
  const options = { scale: 2 ** -12, ring: 32, rounding: "stochastic", seed: "00000000000000ff" } as const;
  const expected = await read(linearCodes(modelOf(data), options), 1 << 20);
  expect(await read(linearCodes(modelOf(data), options))).toEqual(expected);
  // F64 is twice as wide as its codes, and a file's data may begin at any byte.
  const wide: TensorMap = { w: { dtype: "F64", shape: [N], data: new Float64Array(data) } };
  for (const size of [32_768, 65_536]) expect(await read(linearCodes(wide, options), size)).toEqual(expected);
  const { bytes } = serializeSafetensorsHeader([
    { name: "b", dtype: "BOOL", shape: [3] },
    { name: "w", dtype: "F32", shape: [N] },
  ]);
  const path = join(folder, "update.safetensors");
  await writeFile(path, Buffer.concat([bytes, Buffer.alloc(3), bytesOf(data)]));
  await expect(read(linearCodes(path, options))).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    tensor: "b",
  });
  const other = { ...options, seed: "0000000000000100" };
  expect(await read(linearCodes(modelOf(data), other))).not.toEqual(expected);
});

test.each(["nearest", "stochastic"] as const)(
  "codes of 8 bits are linear8's with the same scale, %s",
  async (rounding) => {
    const data = update(4).map((value) => value * 1.2);
    const seed = rounding === "stochastic" ? { seed: "0123456789abcdef" } : {};
    const spec = defaultCodecs.resolve({ name: "linear8", scale: 2 ** -10, rounding, ...seed });
    const payload = new Uint8Array(N);
    const at = { tensor: xxh64(Buffer.from("w")), first: 0 };
    const { clamped } = defaultCodecs.get("linear8").encode(spec, "F32", N, bytesOf(data), payload, at);
    const codes = linearCodes(modelOf(data), { scale: 2 ** -10, ring: 32, bits: 8, rounding, ...seed });
    expect([...u32(await read(codes))].map((code) => (code + 127) >>> 0)).toEqual([...payload]);
    expect(codes.clamped).toBe(clamped);
    expect(clamped).toBeGreaterThan(100);
  },
);

test("codes are limited to their bits, and the source counts how many were", async () => {
  const data = Float32Array.of(0, 1, -1, 3.4, -3.6, 0.5, 1.5, 1e30, -1e30, 127);
  const codes = linearCodes(modelOf(data), { scale: 1, ring: 32, bits: 3 });
  expect([...new Int32Array(u32(await read(codes)).buffer)]).toEqual([0, 1, -1, 3, -3, 0, 2, 3, -3, 3]);
  expect(codes.clamped).toBe(4);
  const wide = linearCodes(modelOf(Float32Array.of(1e9, -1e30)), { scale: 1, ring: 32, bits: 31 });
  expect([...new Int32Array(u32(await read(wide)).buffer)]).toEqual([1e9, -(2 ** 30) + 1]);
});

test.each([
  [{ scale: 0, ring: 32 }],
  [{ scale: Number.NaN, ring: 32 }],
  [{ scale: 1e-39, ring: 32 }],
  [{ scale: 1e38, ring: 32 }],
  [{ scale: 1, ring: 64 }],
  [{ scale: 1, ring: 32, bits: 32 }],
  [{ scale: 1, ring: 32, bits: 1 }],
  [{ scale: 1, ring: 32, rounding: "up" }],
  [{ scale: 1, ring: 32, seed: "00000000000000ff" }],
  [{ scale: 1, ring: 32, rounding: "stochastic", seed: "FF" }],
])("refuses %j", (options) => {
  expect(() => linearCodes({}, options as never)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT" }),
  );
});

test("what has no codes is named: integers, NaN, wide artifacts; and what is no sum", async () => {
  const options = { scale: 1, ring: 32 } as const;
  const ids: TensorMap = { ids: { dtype: "I64", shape: [1], data: new BigInt64Array(1) } };
  await expect(read(linearCodes(ids, options))).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    tensor: "ids",
  });
  const holed = update(1);
  holed[9999] = Number.NaN;
  await expect(read(linearCodes(modelOf(holed), options))).rejects.toMatchObject({
    code: "VALUE_NOT_FINITE",
    tensor: "w",
    chunk: 1,
    message: expect.stringContaining("element 9999"),
  });
  const artifact = join(folder, "update.twire");
  await streamModel(modelOf(update(1)), artifact);
  // Of F32 an artifact's chunks are as wide as those of the codes; of F64 they are not.
  const codes = await read(linearCodes(modelOf(update(1)), options));
  expect(await read(linearCodes(artifact, options), 4 * 2 ** 20)).toEqual(codes);
  const wide = join(folder, "wide.twire");
  await streamModel({ w: { dtype: "F64", shape: [N], data: Float64Array.from(update(1)) } }, wide);
  await expect(read(linearCodes(wide, options), 4 * 2 ** 20)).rejects.toMatchObject({
    message: expect.stringContaining("unpack it"),
    tensor: "w",
  });
  await expect(read(fromLinearCodes(modelOf(update(1)), { scale: 1 }))).rejects.toMatchObject({
    tensor: "w",
  });
  expect(() => fromLinearCodes(ids, { scale: 1, clients: 0 })).toThrow("clients");
});

test("codes travel like any model, and are told by their dtype", async () => {
  const [out, back] = memoryChannelPair();
  const model = receiveModel(back);
  const sending = streamModel(linearCodes(modelOf(update(2)), { scale: 2 ** -16, ring: 32 }), out, {
    codec: "blockwise8",
  });
  const arrived: TensorMap = new Map();
  for await (const { name, dtype, shape, data } of model)
    (arrived as Map<string, unknown>).set(name, { dtype, shape, data });
  expect((await sending).codecs).toMatchObject({ none: { tensors: 1, wireBytes: 4 * N } });
  expect((arrived as ReadonlyMap<string, { dtype: string }>).get("w")!.dtype).toBe("U32");
  const values = new Float32Array((await read(fromLinearCodes(arrived, { scale: 2 ** -16 }))).slice().buffer);
  const data = update(2);
  expect(values.every((value, k) => Math.abs(value - data[k]!) <= 2 ** -17)).toBe(true);
});
