import { byteLength, type CodecSpec, type DType, defaultCodecs, xxh64 } from "@tensorwire/core";
import { adversarial, firstDifference, firstDifferentElement, type Sample } from "@tensorwire/core/testing";
import { beforeAll, expect, it } from "vitest";
import { GPU_CODECS, type GpuBackend, gpuCodecs } from "../../src/gpu/index.js";
import { describeGpu } from "./test-device.js";

const SEED = "0123456789abcdef";

function specsOf(name: string): CodecSpec[] {
  if (name.startsWith("linear")) {
    return [{ name }, { name, mode: "affine", block: 32 }, { name, rounding: "stochastic", seed: SEED }];
  }
  return name.endsWith("float4") ? [{ name }, { name, nested: true }] : [{ name }];
}

describeGpu("a GPU's bytes", (device) => {
  let backend: GpuBackend;

  beforeAll(async () => {
    backend = await gpuCodecs(device, { hostJobs: true, notice: fail });
  }, 60_000);

  async function compare(
    spec: CodecSpec,
    dtype: DType,
    { elements, bytes: source, label }: Sample,
  ): Promise<void> {
    const codec = defaultCodecs.get(spec.name);
    const where = `${JSON.stringify(spec)} of ${dtype}, ${label}`;
    const expected = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    const found = codec.encode(spec, dtype, elements, source, expected);
    const target = new Uint8Array(expected.length);
    const made = await backend.encode({ codec: spec, dtype, elements, source, target });
    expect(firstDifference(target, expected), where).toBe(-1);
    expect(made, where).toEqual({ ...found, hash: xxh64(expected) });
    const reference = new Uint8Array(byteLength(dtype, elements));
    codec.decode(spec, dtype, elements, expected, dtype, reference);
    const back = new Uint8Array(reference.length);
    await backend.decode({
      codec: spec,
      dtype,
      elements,
      payload: target,
      hash: made.hash,
      output: dtype,
      target: back,
    });
    expect(firstDifferentElement(dtype, back, reference), `${where}, decoded`).toBe(-1);
  }

  const samples = { F32: adversarial("F32"), F16: adversarial("F16"), BF16: adversarial("BF16") };

  it.each(GPU_CODECS)("of %s are the reference's on hostile values", async (name) => {
    for (const spec of specsOf(name).map((given) => defaultCodecs.resolve(given))) {
      for (const sample of samples.F32) await compare(spec, "F32", sample);
      // Two of each, of which one has every pattern there is.
      for (const dtype of ["F16", "BF16"] as const) {
        await compare(spec, dtype, samples[dtype][1]!);
        await compare(spec, dtype, samples[dtype].find(({ label }) => label === "all patterns, mixed")!);
      }
    }
  });

  it("were made on the device", () => {
    expect(backend.traffic.hostBytes).toBe(0);
  });
});

describeGpu("a device whose division is off", (device) => {
  // The self-test has every threshold with three neighbours on either side, beside scales of all kinds.
  it.each([-4, 4])("by %i units of the last place gives the same bytes", async (reciprocalError) => {
    const only = ["blockwise8", "normfloat4", "linear4"];
    const notices: string[] = [];
    const backend = await gpuCodecs(device, { only, reciprocalError, notice: (text) => notices.push(text) });
    backend.close();
    expect(notices).toEqual([]);
  });

  it("by more than can be mended is found out, and left to the CPU", async () => {
    const notices: string[] = [];
    const backend = await gpuCodecs(device, {
      only: ["normfloat4"],
      hostJobs: true,
      reciprocalError: 2 ** 12,
      notice: (text) => notices.push(text),
    });
    expect(notices).toEqual([expect.stringMatching(/^normfloat4 runs on the CPU, and not on this device: /)]);
    const codec = defaultCodecs.resolve("normfloat4");
    const source = new Uint8Array(Float32Array.from({ length: 64 }, (_, i) => i).buffer);
    const target = new Uint8Array(36);
    await backend.encode({ codec, dtype: "F32", elements: 64, source, target });
    expect(backend.traffic.deviceBytes).toBe(0);
    const expected = new Uint8Array(36);
    defaultCodecs.get("normfloat4").encode(codec, "F32", 64, source, expected);
    expect(target).toEqual(expected);
    backend.close();
  });
});

function fail(message: string): void {
  throw new Error(message);
}
