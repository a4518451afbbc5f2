import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { closers, collect, floats, given, mixed, over } from "./transfer-fixture.js";

test("values that a codec cannot carry travel exactly, chunk by chunk, and are counted", async () => {
  const data = floats(3 * 8192, 5);
  data[8192] = Number.NaN;
  data[2 * 8192 + 1] = Number.NEGATIVE_INFINITY;
  const { got, sent, summary } = await over(
    { codec: "blockwise8", minElements: 0, chunkBytes: 32768 },
    { weight: { dtype: "F32", shape: [data.length], data } },
  );
  const out = new Float32Array(got.get("weight")!.data.buffer);
  expect(Object.is(out[8192], Number.NaN)).toBe(true);
  expect(Buffer.compare(Buffer.from(out.buffer, 32768, 65536), Buffer.from(data.buffer, 32768, 65536))).toBe(
    0,
  );
  expect(out.subarray(0, 8192)).not.toEqual(data.subarray(0, 8192));
  for (const each of [sent, summary]) {
    expect(each).toMatchObject({
      fallbackChunks: 2,
      codecs: { lossless: { tensors: 0, sourceBytes: 65536 } },
    });
  }
});

test("float16 clamps finite overflow, and both ends know how often", async () => {
  const data = floats(8192, 3);
  data[17] = 1e6;
  data[8000] = -7e4;
  const { got, sent, summary } = await over(
    { codec: "float16", minElements: 0 },
    { weight: { dtype: "F32", shape: [8192], data } },
  );
  const out = new Float32Array(got.get("weight")!.data.buffer);
  expect([out[17], out[8000]]).toEqual([65504, -65504]);
  expect([sent.clamped, summary.clamped]).toEqual([2, 2]);
});

test("an artifact that is sent on keeps its codecs, its digest and what its encoder counted", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  closers.push(() => rm(folder, { recursive: true }));
  const path = join(folder, "model.twire");
  const data = floats(20_000, 3);
  data[17] = 1e6;
  const packed = await streamModel({ weight: { dtype: "F32", shape: [20_000], data } }, path, {
    codec: "float16",
    chunkBytes: 32_768,
  });
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  const [, sent] = await Promise.all([collect(received), streamModel(path, a)]);
  for (const summary of [packed, sent, await received.done]) {
    expect(summary).toMatchObject({ clamped: 1, chunks: 3, digest: packed.digest, codeBytes: 40_000 });
  }
  // Its chunks are what they are: a window of less than two of them is refused by whoever has it.
  const [c, d] = memoryChannelPair();
  const small = receiveModel(d, { windowBytes: 65_536 });
  await expect(streamModel(path, c, { chunkBytes: 40_000 })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await d.close(new Error("nobody came"));
  await expect(small.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("outputDtype converts floats, quantized or not, and leaves the rest", async () => {
  const { got } = await over({ codec: "normfloat4" }, mixed, "BF16");
  expect(Object.fromEntries([...got].map(([name, { dtype }]) => [name, dtype]))).toMatchObject({
    odd: "BF16",
    double: "BF16",
    scalar: "BF16",
    ids: "I64",
    eighth: "F8_E4M3",
  });
  expect(got.get("whole")!.data.length).toBe(64 * 1024 * 2);
});

test("chunks are lent one by one, and tell where they belong", async () => {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  const sending = streamModel(mixed, a, { chunkBytes: 32768 });
  const parts = new Map<string, Buffer>();
  for await (const { name, offset, data, last } of received.chunks()) {
    const before = parts.get(name) ?? Buffer.alloc(0);
    expect(offset).toBe(before.length);
    parts.set(name, Buffer.concat([before, data]));
    if (last) expect(parts.get(name)!.length).toBe(given(name).data.byteLength);
  }
  for (const [name, bytes] of parts) expect(bytes.equals(given(name).data as Uint8Array), name).toBe(true);
  expect((await sending).digest).toBe((await received.done).digest);
});
