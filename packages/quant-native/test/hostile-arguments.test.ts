import { loadNativeBackend } from "@tensorwire/quant-native";
import { expect, it } from "vitest";
import { VERDICT } from "../src/addon.js";
import { addon, CALLS, guarded, options, refused, UNTOUCHED } from "./bare-addon.js";
import { addonPath, describeNative } from "./instruction-sets.js";

type Resizable = new (length: number, options: { maxByteLength: number }) => ArrayBuffer;

const [NONE, FLOAT16, BLOCKWISE8, FLOAT4, NORMFLOAT4, ADAQUANT, LOSSLESS, LINEAR3] = [
  0, 1, 3, 4, 5, 6, 7, 19,
];
const [RAW, F16, F32, F64] = [0, 1, 3, 4];

// Straight to the addon: its own checks must hold, whatever the TypeScript in front of it does.
describeNative("the addon refuses", () => {
  const empty = new Uint8Array(0);
  const hashOfNothing = 0xef46db3751d8e999n;

  it("no arguments at all", () => {
    for (const name of CALLS) refused(name, []);
  });

  it("numbers that are none of what they should be", () => {
    const source = new Uint8Array(256);
    const { all, view: target } = guarded();
    const good: unknown[] = [0, BLOCKWISE8, 64, F32, 64, source, target];
    expect(() => addon.encode(...good)).not.toThrow();
    target.fill(UNTOUCHED);
    const wrong = [
      -1,
      0.5,
      Number.NaN,
      Infinity,
      -Infinity,
      2 ** 53 + 2,
      2 ** 64,
      2 ** 32 + 1,
      "1",
      null,
      undefined,
      1n,
    ];
    for (let at = 0; at < 5; at++) {
      for (const value of wrong) refused("encode", good.toSpliced(at, 1, value));
    }
    refused("encode", good.toSpliced(0, 1, 9));
    for (const codec of [8, 15, 16, 17, 25, 0xffff]) refused("encode", good.toSpliced(1, 1, codec));
    for (const block of [0, 1, 32, 63, 96, 4095, 8192]) refused("encode", good.toSpliced(2, 1, block));
    for (const block of [0, 2, 16, 31, 33, 8192])
      refused("encode", [0, NORMFLOAT4, block, F32, 64, source, target]);
    refused("encode", good.toSpliced(3, 1, 5));
    refused("encode", good.toSpliced(3, 1, RAW));
    expect(all.every((byte) => byte === UNTOUCHED)).toBe(true);
  });

  it("more elements than the views have room for", () => {
    for (const [codec, block, dtype, elements, sourceBytes, targetBytes] of [
      [NONE, 0, RAW, 256, 256, 256],
      [NONE, 0, F64, 32, 256, 256],
      [FLOAT16, 0, F32, 64, 256, 128],
      [BLOCKWISE8, 64, F32, 65, 260, 8 + 65],
      [FLOAT4, 32, F16, 65, 130, 12 + 33],
      [NORMFLOAT4, 64, F64, 1, 8, 5],
      [LOSSLESS, 0, F32, 64, 256, 256],
      [LOSSLESS, 0, RAW, 64, 64, 64],
      [LINEAR3, 32, F32, 65, 260, 12 + 25],
    ] as const) {
      const shape = [0, codec, block, dtype, elements];
      const source = new Uint8Array(sourceBytes);
      const { all, view } = guarded(targetBytes);
      refused("encode", [...shape, source.subarray(1), view]);
      refused("encode", [...shape, source, view.subarray(1)]);
      refused("encode", [...shape, empty, view]);
      refused("encode", [...shape, source, empty]);
      for (const many of [2 ** 31, 2 ** 32, 2 ** 53 - 1])
        refused("encode", [0, codec, block, dtype, many, source, view]);
      expect(all.every((byte) => byte === UNTOUCHED)).toBe(true);

      const payload = new Uint8Array(targetBytes);
      const hash = addon.hash(payload);
      const { all: whole, view: target } = guarded(sourceBytes);
      refused("decode", [...shape, payload, hash, dtype, target.subarray(1)]);
      refused("decode", [...shape, payload.subarray(1), hash, dtype, target], "PAYLOAD_INVALID");
      refused("decode", [...shape, new Uint8Array(targetBytes + 1), hash, dtype, target], "PAYLOAD_INVALID");
      refused("decode", [...shape, empty, hashOfNothing, dtype, target], "PAYLOAD_INVALID");
      refused("decode", [0, codec, block, dtype, 2 ** 53, payload, hash, dtype, target], "PAYLOAD_INVALID");
      expect(whole.every((byte) => byte === UNTOUCHED)).toBe(true);
    }
  });

  it("options that a codec does not have", () => {
    const source = new Uint8Array(256);
    const { all, view: target } = guarded();
    const job = (codec: number, block: number, options: unknown, ...more: unknown[]) => [
      ...[0, codec, block, F32, 32, source, target, undefined, options, undefined],
      ...more,
    ];
    expect(() => addon.encode(...job(LINEAR3, 32, options(4), 1n, 0))).not.toThrow();
    expect(() => addon.encode(...job(ADAQUANT, 0, options(0, 0, 1)))).not.toThrow();
    target.fill(UNTOUCHED);
    for (const flags of [8, 0x80000000]) refused("encode", job(LINEAR3, 32, options(flags)));
    for (const codec of [NONE, FLOAT16, BLOCKWISE8, ADAQUANT, LOSSLESS, LINEAR3]) {
      refused("encode", job(codec, 64, options(1, 0, 1)));
    }
    for (const scale of [-1, Number.NaN, Infinity, 2 ** -130, 2 ** 127.5, 3e38]) {
      refused("encode", job(LINEAR3, 32, options(0, scale)));
    }
    refused("encode", job(LINEAR3, 32, options(2, 0.5)));
    for (const weight of [0, -1, Number.NaN, Infinity])
      refused("encode", job(ADAQUANT, 0, options(0, 0, weight)));
    for (const wrong of [new Uint8Array(23), new Uint8Array(25), empty, new Float64Array(3), null, 1]) {
      refused("encode", job(LINEAR3, 32, wrong));
    }
    // Where a chunk lies matters to none but stochastic rounding.
    for (const [tensor, first] of [
      [undefined, 0],
      [1, 0],
      [-1n, 0],
      [1n << 64n, 0],
      [1n, -1],
      [1n, 0.5],
      [1n, undefined],
      [1n, 2 ** 53 + 2],
    ]) {
      refused("encode", job(LINEAR3, 32, options(4), tensor, first));
    }
    expect(all.every((byte) => byte === UNTOUCHED)).toBe(true);
  });

  it("envelopes that do not go with a payload", () => {
    const payload = new Uint8Array(256);
    const { all, view } = guarded();
    for (const segments of [
      [255],
      [257],
      [256, 1],
      [],
      [-1, 257],
      [0.5, 255.5],
      [Number.NaN],
      ["256"],
      [2 ** 60],
    ]) {
      refused("pack", [payload, segments, view]);
      refused("unpack", [payload, segments, view]);
    }
    for (const segments of [
      undefined,
      null,
      256,
      { length: 1, 0: 256 },
      new Array(17).fill(0),
      new Float64Array(1),
    ]) {
      refused("pack", [payload, segments, view]);
      refused("unpack", [payload, segments, view]);
    }
    // Segments that take the views away while they are read.
    for (const name of ["pack", "unpack"] as const) {
      const [bytes, target] = [new Uint8Array(256), new Uint8Array(256)];
      const taken = Object.defineProperty([256], 0, {
        get() {
          structuredClone(undefined, { transfer: [bytes.buffer, target.buffer] });
          return 256;
        },
      });
      refused(name, [bytes, taken, target]);
    }
    for (const packed of [null, 1, [], new Uint16Array(256)]) {
      refused("encode", [0, NONE, 0, RAW, 256, payload, view, undefined, undefined, packed]);
      refused("decode", [0, NONE, 0, RAW, 256, payload, 0n, RAW, view, undefined, undefined, packed]);
    }
    // Room for another payload.
    for (const length of [0, 255, 257]) {
      const unpacked = new Uint8Array(length);
      const decode = [0, NONE, 0, RAW, 256, payload, 0n, RAW, view, undefined, undefined, unpacked];
      refused("decode", decode, "PAYLOAD_INVALID");
    }
    expect(all.every((byte) => byte === UNTOUCHED)).toBe(true);
  });

  it("payloads of adaquant of a length that it does not have", () => {
    const { all, view } = guarded();
    const decode = (dtype: number, elements: number, bytes: number) => [
      ...[0, ADAQUANT, 0, dtype, elements, new Uint8Array(bytes), 0n, F64, view, undefined, options(0, 0, 1)],
    ];
    for (const bytes of [0, 23, 25, 24 + 31, 24 + 33, 24 + 96, 24 + 128]) {
      refused("decode", decode(F32, 32, bytes), "PAYLOAD_INVALID");
    }
    for (const bytes of [0, 24 + 64, 24 + 128]) refused("decode", decode(F16, 32, bytes), "PAYLOAD_INVALID");
    expect(all.every((byte) => byte === UNTOUCHED)).toBe(true);
    for (const bytes of [24, 24 + 32, 24 + 64]) {
      expect(addon.decode(...decode(F32, 32, bytes))).toBe(VERDICT.corrupt);
    }
  });

  it("views that are no Uint8Array, or whose buffer is gone", () => {
    const target = new Uint8Array(256);
    const detached = new Uint8Array(256);
    structuredClone(detached, { transfer: [detached.buffer] });
    const views = [
      new Float32Array(64),
      new Uint8ClampedArray(256),
      new DataView(new ArrayBuffer(256)),
      detached,
    ];
    for (const view of [...views, new ArrayBuffer(256), [], {}, "bytes", null, undefined, 7]) {
      refused("encode", [0, NONE, 0, RAW, 256, view, target]);
      refused("encode", [0, NONE, 0, RAW, 256, target, view]);
      if (view !== detached) refused("hash", [view]);
    }
    expect(addon.hash(detached)).toBe(hashOfNothing);
  });

  it("outputs that a payload does not have, and hashes that are none", () => {
    const payload = new Uint8Array(128);
    const target = new Uint8Array(512);
    const hash = addon.hash(payload);
    const decode = (wanted: unknown, output: unknown, dtype = F32) => [
      0,
      FLOAT16,
      0,
      dtype,
      64,
      payload,
      wanted,
      output,
      target,
    ];
    expect(addon.decode(...decode(hash, F32))).toBe(VERDICT.intact);
    for (const output of [RAW, 5, -1, undefined]) refused("decode", decode(hash, output));
    refused("decode", decode(hash, F32, RAW));
    refused("decode", [0, NONE, 0, RAW, 128, payload, hash, F16, target]);
    for (const wanted of [0, -1n, 1n << 64n, null, "0"]) refused("decode", decode(wanted, F32));
    expect(addon.decode(...decode(undefined, F32))).toBe(VERDICT.intact);
  });

  it("sums and weights that are none, and payloads that are not those of so many elements", () => {
    const payload = new Uint8Array(128);
    const hash = addon.hash(payload);
    const sums = new Float32Array(96).fill(5);
    const job = [0, FLOAT16, 0, F32, 64, payload, hash, 0.5, sums.subarray(16, 80)];
    expect(addon.accumulate(...job)).toBe(VERDICT.intact);
    expect(addon.accumulate(...job.toSpliced(6, 1, undefined))).toBe(VERDICT.intact);
    expect(addon.accumulate(...job.toSpliced(6, 1, 1n))).toBe(VERDICT.corrupt);
    const gone = new Float32Array(64);
    structuredClone(gone, { transfer: [gone.buffer] });
    const views = [new Uint8Array(256), new Int32Array(64), new DataView(new ArrayBuffer(256)), gone];
    for (const view of [...views, new ArrayBuffer(256), [], {}, null, undefined, sums.subarray(0, 63)]) {
      refused("accumulate", job.toSpliced(8, 1, view));
    }
    for (const weight of [Number.NaN, Infinity, -Infinity, 1e39, "1", 1n, null, undefined]) {
      refused("accumulate", job.toSpliced(7, 1, weight));
    }
    expect(addon.accumulate(...job.toSpliced(7, 2, 1e39, new Float64Array(64)))).toBe(VERDICT.intact);
    for (const wanted of [0, -1n, 1n << 64n, "0", null]) refused("accumulate", job.toSpliced(6, 1, wanted));
    for (const elements of [63, 65, 2 ** 53]) {
      refused("accumulate", job.toSpliced(4, 1, elements), "PAYLOAD_INVALID");
    }
    refused("accumulate", [0, NONE, 0, RAW, 128, payload, hash, 1, sums]);
    refused("accumulate", [...job, 7]);
    const unpacked = new Uint8Array(127);
    refused("accumulate", [...job, undefined, undefined, unpacked], "PAYLOAD_INVALID");
    expect([...sums.subarray(0, 16), ...sums.subarray(80)].every((sum) => sum === 5)).toBe(true);

    const inspect = [0, FLOAT16, 0, F32, 64, payload, hash, F32];
    expect(addon.inspect(...inspect)).toBe(VERDICT.intact);
    for (const output of [RAW, F16, 5, -1, undefined]) refused("inspect", inspect.toSpliced(7, 1, output));
    for (const elements of [63, 65, 2 ** 53]) {
      refused("inspect", inspect.toSpliced(4, 1, elements), "PAYLOAD_INVALID");
    }
    refused("inspect", [0, NONE, 0, RAW, 128, payload, hash, F32]);
    refused("inspect", [...inspect, undefined, undefined, unpacked], "PAYLOAD_INVALID");
  });

  it("callbacks and jobs that are none", () => {
    for (const callback of [null, 1, {}, "f"]) refused("hash", [empty, callback]);
    expect(addon.cancel(0)).toBe(false);
    expect(addon.cancel(12345)).toBe(false);
    for (const job of [-1, 2 ** 32, 1.5, "1"]) refused("cancel", [job]);
  });

  it("buffers that can shrink under a running job", async () => {
    const buffer = new (ArrayBuffer as unknown as Resizable)(1 << 20, { maxByteLength: 1 << 21 });
    const backend = loadNativeBackend({ addon: addonPath })!;
    await expect(backend.hash(new Uint8Array(buffer))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
