import { bytesOf } from "@tensorwire/core";
import { aggregate } from "../src/index.js";
import { type SampleTensor, sourceSuite } from "../src/testing/index.js";
import { hasFolder, pack, path, update } from "./aggregate-fixture.js";

hasFolder();

const finite = [
  ...Object.entries(update(1, 30_001)).map(([name, tensor]) => ({ name, ...tensor })),
  { name: "ids", dtype: "I64", shape: [9], data: new BigInt64Array(9).fill(-3n) },
  { name: "empty", dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
  { name: "scalar", dtype: "BF16", shape: [], data: Uint16Array.of(0x3f80) },
].map(({ data, ...info }) => ({ ...info, data: bytesOf(data) }) as SampleTensor);
const model = new Map(finite.map(({ name, ...tensor }) => [name, tensor]));

for (const options of [{}, { accumulator: "f32", clipNorm: 1e9 }, { method: "median" }] as const) {
  sourceSuite(`aggregate of four of one model, ${JSON.stringify(options)}`, async () => ({
    source: aggregate({ a: model, b: model, c: model, d: model }, options),
    tensors: finite,
  }));
  sourceSuite(`aggregate of artifacts, ${JSON.stringify(options)}`, async () => ({
    source: aggregate([await pack(path(), model), await pack(path(), model, "lossless")], options),
    tensors: finite,
  }));
}
