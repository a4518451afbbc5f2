import { byteLength, xxh64 } from "@tensorwire/core";
import { firstDifference, firstDifferentElement, shifted } from "@tensorwire/core/testing";
import { beforeAll, expect, it } from "vitest";
import {
  type DecodeVector,
  decodeVectors,
  nestedVectors,
  quantizeVectors,
} from "../../../core/test/vectors.js";
import { type GpuBackend, gpuCodecs } from "../../src/gpu/index.js";
import { describeGpu } from "./test-device.js";

describeGpu("bitsandbytes' vectors on a GPU", (device) => {
  let backend: GpuBackend;
  const codecs = ["blockwise8", "float4", "normfloat4"];

  beforeAll(async () => {
    backend = await gpuCodecs(device, { hostJobs: true, only: codecs, notice: fail });
  });

  async function expectDecoded(vector: DecodeVector, nonFinite: boolean): Promise<void> {
    const { codec, dtype, elements, decoded } = vector;
    const payload = shifted(vector.payload, 1);
    const hash = xxh64(payload);
    expect(decoded.length).toBeGreaterThan(0);
    for (const { output, bytes } of decoded) {
      const target = new Uint8Array(byteLength(output, elements));
      await backend.decode({ codec, dtype, elements, payload, hash, output, target });
      const different = nonFinite
        ? firstDifferentElement(output, target, bytes)
        : firstDifference(target, bytes);
      expect(different, `decoded to ${output}`).toBe(-1);
    }
  }

  it.each(quantizeVectors())("$id", async (vector) => {
    const { codec, dtype, elements, source, payload, nonFinite } = vector;
    const target = new Uint8Array(payload.length);
    const encoded = await backend.encode({ codec, dtype, elements, source, target });
    expect(firstDifference(target, payload)).toBe(-1);
    expect(encoded.hash).toBe(xxh64(payload));
    expect(encoded.nonFinite > 0).toBe(nonFinite);
    await expectDecoded(vector, nonFinite);
  });

  it.each(nestedVectors())("$id", async (vector) => {
    await expectDecoded(vector, false);
  });

  it.each(decodeVectors())("$id", async (vector) => {
    await expectDecoded(vector, false);
  });

  it("ran on the device, all of it", () => {
    expect(backend.traffic.hostBytes).toBe(0);
    expect(backend.traffic.deviceBytes).toBeGreaterThan(0);
  });
});

function fail(message: string): void {
  throw new Error(message);
}
