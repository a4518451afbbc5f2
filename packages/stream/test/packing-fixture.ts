import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BUILT_IN_CODECS,
  byteLength,
  type Codec,
  CodecRegistry,
  type DType,
  elementCount,
  none,
  PortableBackend,
} from "@tensorwire/core";
import { afterEach } from "vitest";
import {
  memoryChannelPair,
  type ReceivedTensor,
  type ReceiveOptions,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
  type TransferSummary,
} from "../src/index.js";
import { runPacker } from "./run-packer.js";
import { collect } from "./transfer-fixture.js";

/** Says of chunks that begin below zero that it saves nothing on them; of constant ones it keeps one element. */
export const declining: Codec = {
  name: "declining",
  id: 901,
  resolve: () => ({ name: "declining" }),
  supports: (dtype) => dtype === "F32",
  payloadBytes: (_spec, _dtype, elements) => 4 + elements,
  payloadSizes: (_spec, _dtype, elements) => [4, 4 + elements],
  scaleBytes: () => 4,
  encode(_spec, _dtype, elements, source, target) {
    const values = new Float32Array(source.slice(0, 4 * elements).buffer);
    const [scale] = values as unknown as [number];
    const found = { scaleBytes: 4, nonFinite: 0, clamped: 0 };
    if (scale < 0) return { ...found, bytes: 0, declined: true };
    target.set(source.subarray(0, 4));
    if (values.every((value) => value === scale)) return { ...found, bytes: 4 };
    values.forEach((value, i) => void (target[4 + i] = Math.min(255, Math.abs(value / scale))));
    return { ...found, bytes: 4 + elements };
  },
  decode(_spec, _dtype, elements, payload, output, target) {
    const scale = new DataView(payload.buffer, payload.byteOffset).getFloat32(0, true);
    const values = Float32Array.from({ length: elements }, (_, i) => scale * (payload[4 + i] ?? 1));
    none.decode({ name: "none" }, "F32", elements, new Uint8Array(values.buffer), output, target);
  },
};

export const registry = new CodecRegistry([...BUILT_IN_CODECS, declining]);
/** One that packs without a library: what has long runs of a byte becomes smaller. */
export const backend = new PortableBackend(registry, runPacker);

/** Values whose payloads have runs, and some that have none. */
export function filled(dtype: DType, shape: number[], seed = 1) {
  const elements = elementCount(shape);
  const data = new Uint8Array(byteLength(dtype, elements));
  const values = new Float32Array(elements).map((_, i) =>
    i % 5000 < 2500 ? 0 : Math.sin(i * 12.9898 + seed) * 0.02 * (1 + (i % 7)),
  );
  if (["F16", "BF16", "F32", "F64"].includes(dtype)) {
    const source = new Uint8Array(values.buffer);
    none.decode({ name: "none" }, "F32", elements, source, dtype, data);
  } else {
    data.forEach((_, i) => void (data[i] = i % 700 < 400 ? 3 : i * 31 + seed));
  }
  return { dtype, shape, data };
}

export const mixed = {
  scalar: filled("F32", []),
  empty: filled("F32", [0, 4]),
  odd: filled("F32", [12_289]),
  half: filled("F16", [3, 4097]),
  brain: filled("BF16", [100, 101]),
  double: filled("F64", [8193]),
  whole: filled("F32", [64, 1024]),
  ids: filled("I64", [1290]),
  mask: filled("BOOL", [777]),
  nibbles: filled("F4", [5000]),
};

export interface Moved {
  readonly got: Map<string, ReceivedTensor>;
  readonly sent: TransferSummary;
  readonly received: TransferSummary;
}

/** Moves a model over a pair of channels in memory. */
export async function move(
  source: TensorMap | string,
  options: StreamOptions,
  receiving: ReceiveOptions = {},
): Promise<Moved> {
  const [a, b] = memoryChannelPair(10_007);
  const model = receiveModel(b, { registry, backend, ...receiving });
  const [got, sent] = await Promise.all([
    collect(model),
    streamModel(source, a, { registry, backend, ...options }),
  ]);
  return { got, sent, received: await model.done };
}

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

/** A folder of the test's own. */
export async function scratch(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  folders.push(folder);
  return folder;
}
