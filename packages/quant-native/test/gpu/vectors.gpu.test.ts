import { beforeAll, expect, it } from "vitest";
import { decodeVectors, nestedVectors, quantizeVectors } from "../../../core/test/vectors.js";
import { type GpuBackend, gpuCodecs } from "../../src/gpu/index.js";
import { expectDecoded, expectEncoded } from "../vector-expectations.js";
import { describeGpu } from "./test-device.js";

describeGpu("bitsandbytes' vectors on a GPU", (device) => {
  let backend: GpuBackend;
  const codecs = ["blockwise8", "float4", "normfloat4"];

  beforeAll(async () => {
    backend = await gpuCodecs(device, { hostJobs: true, only: codecs, notice: fail });
  });

  it.each(quantizeVectors())("$id", (vector) => expectEncoded(backend, vector));

  it.each(nestedVectors())("$id", (vector) => expectDecoded(backend, vector));

  it.each(decodeVectors())("$id", (vector) => expectDecoded(backend, vector));

  it("ran on the device, all of it", () => {
    expect(backend.traffic.hostBytes).toBe(0);
    expect(backend.traffic.deviceBytes).toBeGreaterThan(0);
  });
});

function fail(message: string): void {
  throw new Error(message);
}
