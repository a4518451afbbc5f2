// What fuzzing begins with: bitsandbytes' reference vectors, and chunks of every codec and kind of spec, as the targets
// in fuzz/ read them (fuzz/fuzz_input.h).
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  BUILT_IN_CODECS,
  byteLength,
  defaultCodecs,
  FLOAT_DTYPES,
  packPayload,
  segmentsOf,
} from "@tensorwire/core";
import { nodePacker } from "../dist/index.js";
import { adversarial, ordinary } from "../../core/dist/testing/samples.js";
import { specVariants } from "../../core/dist/testing/spec-variants.js";

const DTYPES = { F16: 1, BF16: 2, F32: 3, F64: 4 };
const [NESTED, AFFINE, STOCHASTIC, SCALED, PACKED] = [1, 2, 4, 8, 16];
/** Codecs that also take bytes that nobody computes with, so that dtypes count from there. */
const ALSO_RAW = ["none", "lossless"];
/** A codec is its place among all of them. */
const IDS = BUILT_IN_CODECS.map(({ id }) => id).sort((a, b) => a - b);
/** Longer seeds only make fuzzing slower. */
const MOST_BYTES = 6000;

const vectors = new URL("../../core/test/vectors/", import.meta.url);
const VECTOR_CODECS = { blockwise8: "blockwise8", fp4: "float4", nf4: "normfloat4" };

function head(spec, dtype, elements) {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  const number = DTYPES[dtype];
  bytes[0] = IDS.indexOf(defaultCodecs.get(spec.name).id);
  bytes[1] = ALSO_RAW.includes(spec.name) ? number : number - 1;
  bytes[2] = spec.block === undefined ? 0 : Math.log2(spec.block) - 5;
  bytes[3] =
    (spec.nested ? NESTED : 0) |
    (spec.mode === "affine" ? AFFINE : 0) |
    (spec.rounding === "stochastic" ? STOCHASTIC : 0) |
    (spec.scale === undefined ? 0 : SCALED) |
    PACKED;
  bytes[4] = number - 1;
  view.setFloat32(8, spec.scale ?? 0, true);
  view.setBigUint64(16, BigInt(`0x${spec.seed ?? "0"}`), true);
  // For an envelope, how many elements are in it; for stochastic rounding, where they begin.
  view.setBigUint64(32, BigInt(elements), true);
  view.setFloat64(40, spec.weight ?? 0, true);
  return bytes;
}

/** A chunk for each of the targets: `source`, `payload` and, where it is shorter, `packed`. */
function* chunksOf(codec) {
  const packer = nodePacker();
  for (const dtype of FLOAT_DTYPES.filter((each) => codec.supports(each))) {
    const edges = [0, 1, 33, 257].map((elements) => ({
      elements,
      bytes: ordinary(dtype, elements, elements),
    }));
    const hostile = adversarial(dtype).map(({ bytes }) => {
      const elements = Math.min(MOST_BYTES, bytes.length) >>> 3;
      return { elements, bytes };
    });
    for (const spec of specVariants(defaultCodecs, codec.name)) {
      for (const { elements, bytes } of [...edges, ...hostile]) {
        const target = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
        const made = codec.encode(spec, dtype, elements, bytes, target);
        const payload = target.subarray(0, made.bytes);
        const packed = new Uint8Array(made.bytes);
        const segments = segmentsOf(codec, spec, dtype, elements, made.bytes);
        const length = made.declined ? 0 : packPayload(payload, segments, packer, packed);
        yield {
          spec,
          dtype,
          elements,
          source: bytes.subarray(0, byteLength(dtype, elements)),
          payload,
          packed: packed.subarray(0, length),
        };
      }
    }
  }
  yield* vectorChunks(codec);
}

function* vectorChunks(codec) {
  const read = ({ file, offset, count, dtype }) =>
    readFileSync(new URL(file, vectors)).subarray(
      offset,
      offset + count * { f32: 4, u8: 1, f16: 2, bf16: 2 }[dtype],
    );
  const index = JSON.parse(readFileSync(new URL("index.json", vectors), "utf8"));
  for (const { codec: name, input, blocksize: block, n: elements, absmax, codes } of index.cases) {
    const { tensor } = index.inputs[input];
    if (VECTOR_CODECS[name] !== codec.name || elements * 4 > MOST_BYTES) continue;
    yield {
      spec: defaultCodecs.resolve({ name: codec.name, block }),
      dtype: tensor.dtype.toUpperCase(),
      elements,
      source: read(tensor),
      payload: Buffer.concat([read(absmax), read(codes)]),
      packed: new Uint8Array(0),
    };
  }
}

/** Writes seeds of a codec to a folder for each target: `folderOf(target)`. */
export function writeSeeds(codec, folderOf) {
  const parts = { encode: "source", decode: "payload", unpack: "packed" };
  for (const target of Object.keys(parts)) mkdirSync(folderOf(target), { recursive: true });
  let number = 0;
  for (const chunk of chunksOf(codec)) {
    number++;
    for (const [target, part] of Object.entries(parts)) {
      if (target === "unpack" && chunk.packed.length === 0) continue;
      writeFileSync(
        join(folderOf(target), `seed-${number}`),
        Buffer.concat([head(chunk.spec, chunk.dtype, chunk.elements), chunk[part]]),
      );
    }
  }
}
