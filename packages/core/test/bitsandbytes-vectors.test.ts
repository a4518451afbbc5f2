import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import {
  byteLength,
  defaultCodecs,
  nestedBytes,
  readNestedScales,
  writeNestedBlock,
  writeOffset,
} from "../src/index.js";
import { firstDifference, firstDifferentElement } from "../src/testing/index.js";
import {
  type DecodeVector,
  decodeVectors,
  LEFT_OUT,
  nestedVectors,
  quantizeVectors,
  vectorFile,
  vectorIndex,
} from "./vectors.js";

let quantized = 0;
let decoded = 0;

function expectDecoded(
  { codec: spec, dtype, elements, payload, decoded: wanted }: DecodeVector,
  nan: boolean,
) {
  expect(wanted.length).toBeGreaterThan(0);
  for (const { output, bytes } of wanted) {
    const target = new Uint8Array(byteLength(output, elements));
    defaultCodecs.get(spec.name).decode(spec, dtype, elements, payload, output, target);
    const different = nan ? firstDifferentElement(output, target, bytes) : firstDifference(target, bytes);
    expect(different, `decoded to ${output}`).toBe(-1);
    decoded++;
  }
}

describe("bitsandbytes' vectors", () => {
  it("are the files that the index describes", () => {
    for (const [name, { bytes, sha256 }] of Object.entries(vectorIndex.files)) {
      if (LEFT_OUT.includes(name)) {
        expect(existsSync(new URL(`./vectors/${name}`, import.meta.url))).toBe(false);
        continue;
      }
      expect(vectorFile(name).length, name).toBe(bytes);
      expect(createHash("sha256").update(vectorFile(name)).digest("hex"), name).toBe(sha256);
    }
  });

  it.each(quantizeVectors())("$id", (vector) => {
    const { codec: spec, dtype, elements, source, payload, nonFinite } = vector;
    const codec = defaultCodecs.get(spec.name);
    expect(source.length).toBe(byteLength(dtype, elements));
    expect(codec.payloadBytes(spec, dtype, elements)).toBe(payload.length);
    const target = new Uint8Array(payload.length);
    const encoded = codec.encode(spec, dtype, elements, source, target);
    expect(firstDifference(target, payload)).toBe(-1);
    expect(encoded.nonFinite > 0).toBe(nonFinite);
    quantized++;
    expectDecoded(vector, nonFinite);
  });

  it.each(decodeVectors())("$id", (vector) => {
    expectDecoded(vector, false);
  });

  it.each(nestedVectors())("$id", (vector) => {
    const { codec: spec, dtype, elements, source, payload, scales, restored, offset } = vector;
    const codec = defaultCodecs.get(spec.name);
    expect(codec.payloadBytes(spec, dtype, elements)).toBe(payload.length);
    const made = new Uint8Array(payload.length);
    codec.encode(spec, dtype, elements, source, made);
    const computed = new DataView(made.buffer).getFloat32(0, true);
    expect(Math.abs(computed / offset - 1)).toBeLessThan(1e-6);
    // The offset is the mean in an order that bitsandbytes leaves open. With its own, all of the rest is equal.
    const rest = nestedBytes(scales.length);
    writeOffset(offset, made);
    for (let first = 0; first < scales.length; first += 256) {
      writeNestedBlock(scales.subarray(first, first + 256), first, scales.length, offset, made);
    }
    expect(firstDifference(made.subarray(0, rest), payload.subarray(0, rest))).toBe(-1);
    expect(firstDifference(made.subarray(rest), payload.subarray(rest))).toBe(-1);
    const back = new Float32Array(scales.length);
    readNestedScales(payload, 0, scales.length, back);
    expect(back).toEqual(restored);
    quantized++;
    expectDecoded(vector, false);
  });

  afterAll(() => {
    console.log(
      `${quantized} of ${vectorIndex.cases.length + vectorIndex.nested.length} cases quantized, ${decoded} payloads decoded`,
    );
  });
});
