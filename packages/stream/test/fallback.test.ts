import { PassThrough } from "node:stream";
import { BUILT_IN_CODECS, byteLength, CodecRegistry, type DType, PortableBackend } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { collect } from "./transfer-fixture.js";
import { backend, move, registry } from "./packing-fixture.js";

checksLoans();

const older = new CodecRegistry(BUILT_IN_CODECS.filter(({ name }) => name !== "lossless"));
const withoutLossless = { registry: older, backend: new PortableBackend(older) };

/** Elements of all bit patterns that a codec would lose: NaNs with payloads, signalling ones, negative zeros. */
const HOSTILE: Record<string, bigint[]> = {
  F16: [0x7c01n, 0xfe55n, 0x7c00n, 0x8000n],
  BF16: [0x7f81n, 0xffd5n, 0xff80n, 0x8000n],
  F32: [0x7f800001n, 0xffc12345n, 0x7f800000n, 0x80000000n],
  F64: [0x7ff0000000000001n, 0xfff8123456789abcn, 0x7ff0000000000000n, 0x8000000000000000n],
};

const ELEMENTS = 3 * 4096 + 7;
/** Where such values are: in every chunk of the narrower dtypes, in the first and the third of F64's four. */
const RUNS = [0, 2 * 4096];

function hostile(dtype: DType): Uint8Array {
  const width = byteLength(dtype, 1);
  const data = new Uint8Array(ELEMENTS * width);
  for (const run of RUNS) {
    HOSTILE[dtype]!.forEach((bits, i) => {
      for (let byte = 0; byte < width; byte++) {
        data[(run + 3 * i) * width + byte] = Number((bits >> BigInt(8 * byte)) & 255n);
      }
    });
  }
  return data;
}

describe.each(["F16", "BF16", "F32", "F64"] as const)("%s", (dtype) => {
  const data = hostile(dtype);
  const shape = [ELEMENTS];
  const model = { weight: { dtype, shape, data } };
  const width = byteLength(dtype, 1);
  const options: StreamOptions = { minElements: 0, chunkBytes: 32768 };
  const expectExact = (got: Uint8Array): void => {
    for (const run of RUNS) {
      const [begin, end] = [run * width, (run + 4096) * width];
      expect(Buffer.compare(got.subarray(begin, end), data.subarray(begin, end))).toBe(0);
    }
  };

  test.each(["blockwise8", "float4", "normfloat4"])(
    "%s: what it cannot carry arrives bit for bit",
    async (codec) => {
      for (const compress of ["never", "auto"] as const) {
        const { got, sent, received } = await move(model, { ...options, codec, compress });
        expectExact(got.get("weight")!.data);
        const fallbackChunks = width === 2 ? 1 : 2;
        for (const summary of [sent, received]) {
          expect(summary).toMatchObject({ fallbackChunks, declinedChunks: 0 });
          expect(Object.keys(summary.codecs)).toEqual([codec, "lossless"]);
          expect(summary.packedChunks).toBeGreaterThanOrEqual(fallbackChunks);
        }
      }
    },
  );

  test("for a peer without lossless it is none", async () => {
    const { got, received } = await move(model, { ...options, codec: "blockwise8" }, withoutLossless);
    expectExact(got.get("weight")!.data);
    expect(received.packedChunks).toBe(0);
    expect(Object.keys(received.codecs)).toEqual(["blockwise8", "none"]);
  });

  test("nonFinite: error names tensor, chunk and element, and the peer learns of it", async () => {
    const [a, b] = memoryChannelPair();
    const model = receiveModel(b, { registry, backend });
    // One chunk that is well, then one that is not.
    const second = new Uint8Array(data.length + 32768);
    second.set(data, 32768);
    const weight = { dtype, shape: [second.length / width], data: second };
    const sending = streamModel({ weight }, a, {
      registry,
      backend,
      codec: "normfloat4",
      chunkBytes: 32768,
      nonFinite: "error",
    });
    const [sent] = await Promise.allSettled([sending, collect(model)]);
    const first = 32768 / width;
    expect(sent).toMatchObject({
      reason: {
        code: "VALUE_NOT_FINITE",
        retryable: false,
        tensor: "weight",
        chunk: 1,
        message: expect.stringContaining(
          `tensor "weight", chunk 1: element ${first} is NaN, which normfloat4`,
        ),
      },
    });
    await expect(model.done).rejects.toMatchObject({ code: "PEER_FAILED", peerCode: "VALUE_NOT_FINITE" });
  });
});

test("finite values that a codec cannot carry fall back, and are named, as well", async () => {
  const data = new Float32Array(8192).fill(1);
  data[5000] = 3.4e38;
  const model = { weight: { dtype: "F32", shape: [8192], data } } as const;
  const { got } = await move(model, { codec: "bfloat16" });
  expect(new Float32Array(got.get("weight")!.data.buffer)).toEqual(data);
  const writable = new PassThrough();
  writable.resume();
  const options = { registry, backend, codec: "bfloat16", nonFinite: "error" } as const;
  const sending = streamModel(model, { writable }, options);
  await expect(sending).rejects.toMatchObject({
    code: "VALUE_NOT_FINITE",
    message: expect.stringMatching(/element 5000 is 3\.39\d+e\+38, which bfloat16/),
  });
});

test("what travels as none or lossless may hold anything, also where the rest may not", async () => {
  const data = new Float32Array(5000).fill(Number.NaN);
  for (const codec of ["none", "lossless"]) {
    const { sent } = await move(
      { weight: { dtype: "F32", shape: [5000], data } },
      { codec, nonFinite: "error" },
    );
    expect(sent).toMatchObject({ fallbackChunks: 0 });
  }
});

test("a codec that declines is counted apart, where that is known", async () => {
  // A chunk that declines, one that keeps an element, one with a payload of its whole length, one with a NaN besides.
  const data = new Float32Array(4 * 8192).fill(2);
  data[0] = -1;
  for (let i = 2 * 8192; i < 3 * 8192; i++) data[i] = 2 + 2 * ((i - 2 * 8192) % 3);
  const model = { weight: { dtype: "F32", shape: [data.length], data } } as const;
  const options = { codec: "declining", chunkBytes: 32768 };
  const { got, sent, received } = await move(model, options);
  expect(new Float32Array(got.get("weight")!.data.buffer)).toEqual(data);
  const own = { tensors: 1, sourceBytes: 3 * 32768, payloadBytes: 4 + (4 + 8192) + 4 };
  expect(sent).toMatchObject({ fallbackChunks: 1, declinedChunks: 1, codecs: { declining: own } });
  expect(received).toMatchObject({ fallbackChunks: 1, declinedChunks: 0, codecs: { declining: own } });
  expect(sent.scaleBytes).toBe(3 * 4);
  // It is no fault of the model's.
  const strict = await move(model, { ...options, nonFinite: "error" });
  expect(strict.sent.declinedChunks).toBe(1);
});
