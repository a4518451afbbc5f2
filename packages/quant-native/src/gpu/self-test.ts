import {
  byteLength,
  type CodecSpec,
  DYNAMIC8_THRESHOLDS,
  type DType,
  FP4_THRESHOLDS,
  NF4_THRESHOLDS,
  none,
  TensorwireError,
  UNNAMED,
} from "@tensorwire/core";
import type { DeviceChunk, DeviceCodecs } from "./device-codec.js";
import type { Transport } from "./transport.js";
import { DEVICE_DTYPES, type DeviceDType } from "./wgsl/elements.js";

const SEED = "0123456789abcdef";

/** Specs whose kernels differ, for each codec that kernels have. */
function specsOf(name: string): CodecSpec[] {
  if (name.startsWith("linear")) {
    return [
      { name, block: 64 },
      { name, block: 32, mode: "affine" },
      { name, mode: "affine", rounding: "stochastic", seed: SEED },
      { name, scale: 0.01 },
    ];
  }
  if (name === "float4" || name === "normfloat4") return [{ name }, { name, nested: true, block: 32 }];
  return [{ name }];
}

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** A float32, and the three on either side of it. */
function around(value: number): number[] {
  floats[0] = value;
  const bits = words[0]!;
  return [-3, -2, -1, 0, 1, 2, 3].map((ulps) => {
    words[0] = bits + ulps;
    return floats[0]!;
  });
}

/**
 * Values that show what a device does otherwise: every threshold and its neighbours, beside largest magnitudes whose
 * reciprocals are anything; subnormals; zeros of both signs; products and sums that would differ if they were fused.
 */
function testValues(): Float32Array {
  const thresholds = [...DYNAMIC8_THRESHOLDS, ...NF4_THRESHOLDS, ...FP4_THRESHOLDS].flatMap(around);
  const values: number[] = [];
  const scales = [1, 0.0237, 3e38, 2 ** -126, 2 ** -130, 2 ** -149, 7, 1 / 3, 65504, 1e-30];
  for (const [i, threshold] of thresholds.entries()) {
    const scale = scales[Math.floor(values.length / 32) % scales.length]!;
    if (values.length % 32 === 0) values.push(scale);
    values.push((i % 5 === 0 ? -1 : 1) * Math.abs(threshold) * scale);
  }
  while (values.length % 64 !== 0) values.push(-0);
  for (let i = 0; i < 96; i++) values.push((i % 2 === 0 ? 1 : -1) * 2 ** (-149 + i));
  for (let i = 0; i < 37; i++) values.push(1 + i * 2 ** -23, i - 0.5, 65519.996 + i * 2 ** -8, 0);
  return Float32Array.from(values);
}

/** Those values as elements, all finite: a NaN may have any payload. */
function testElements(dtype: DType, values: Float32Array): Uint8Array {
  const target = new Uint8Array(byteLength(dtype, values.length));
  const limited = dtype === "F16" ? values.map((value) => Math.max(-65504, Math.min(65504, value))) : values;
  const bytes = new Uint8Array(limited.buffer);
  none.decode({ name: "none" }, "F32", values.length, bytes, dtype, target);
  return target;
}

let tested: Record<DeviceDType, Uint8Array> | undefined;

function testSources(): Record<DeviceDType, Uint8Array> {
  if (tested === undefined) {
    const values = testValues();
    const sources = DEVICE_DTYPES.map((dtype) => [dtype, testElements(dtype, values)]);
    tested = Object.fromEntries(sources) as Record<DeviceDType, Uint8Array>;
  }
  return tested;
}

/**
 * Encodes and decodes on the device, and compares with the reference bit for bit.
 * @returns what is wrong with a codec that is not to run there.
 * @throws TensorwireError `DEVICE_LOST`.
 */
export async function selfTest(
  transport: Transport,
  codecs: DeviceCodecs,
  name: string,
): Promise<string | undefined> {
  const sources = testSources();
  const trials = specsOf(name).flatMap((spec) =>
    DEVICE_DTYPES.map((dtype) => compare(transport, codecs, spec, dtype, sources[dtype])),
  );
  for (const trial of await Promise.allSettled(trials)) {
    if (trial.status === "fulfilled") continue;
    const error: unknown = trial.reason;
    if (error instanceof TensorwireError && error.code === "DEVICE_LOST") throw error;
    return error instanceof Error ? error.message : String(error);
  }
  return undefined;
}

async function compare(
  transport: Transport,
  codecs: DeviceCodecs,
  given: CodecSpec,
  dtype: DeviceDType,
  source: Uint8Array,
): Promise<void> {
  const { registry } = codecs;
  const spec = registry.resolve(given);
  const codec = registry.get(spec.name);
  const elements = source.length / byteLength(dtype, 1);
  const expected = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
  const found = codec.encode(spec, dtype, elements, source, expected, UNNAMED);
  const encoder = there(codecs.encoder(spec, dtype, elements, UNNAMED));
  const made = new Uint8Array(expected.length);
  const { nonFinite, clamped } = await transport.encode(encoder, source, made, undefined);
  const where = `${JSON.stringify(spec)} of ${dtype}`;
  expectSame(made, expected, `${where} is encoded`);
  if (nonFinite !== found.nonFinite || clamped !== found.clamped) {
    throw new Error(`${where}: counts differ from the reference's`);
  }
  const decoder = there(codecs.decoder(spec, dtype, elements, dtype));
  const back = new Uint8Array(source.length);
  await transport.decode(decoder, made, back, undefined);
  const reference = new Uint8Array(source.length);
  codec.decode(spec, dtype, elements, expected, dtype, reference);
  expectSame(back, reference, `${where} is decoded`);
}

function there(chunk: DeviceChunk | undefined): DeviceChunk {
  if (chunk === undefined) throw new Error("the device's limits are too low");
  return chunk;
}

function expectSame(given: Uint8Array, expected: Uint8Array, what: string): void {
  const at = given.findIndex((byte, i) => byte !== expected[i]);
  if (at >= 0) throw new Error(`${what} to other bytes than by the reference, from byte ${at} on`);
}
