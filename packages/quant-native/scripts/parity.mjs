// Holds an addon to the reference codecs' bytes in a process that needs nothing but Node, and so can be an emulated one:
// every codec and kind of spec, every dtype, every edge length, hostile values, one instruction set after the other.
//
//   node scripts/parity.mjs <addon> [--sample]      (--sample: few lengths and values, for CI)
import { BUILT_IN_CODECS, byteLength, defaultCodecs, FLOAT_DTYPES, xxh64 } from "@tensorwire/core";
import { loadAddon } from "../dist/addon.js";
import { loadNativeBackend } from "../dist/index.js";
// Not from the package's entry for tests, which needs a test runner.
import { adversarial, EDGE_LENGTHS, ordinary, shifted } from "../../core/dist/testing/samples.js";
import { firstDifference, firstDifferentElement } from "../../core/dist/testing/equality.js";
import { specVariants } from "../../core/dist/testing/spec-variants.js";

const [path, mode] = process.argv.slice(2);
const sampled = mode === "--sample";

function samplesOf(dtype) {
  const lengths = sampled ? [1, 33, 4097] : EDGE_LENGTHS;
  const edges = lengths.map((elements) => ({
    label: "ordinary",
    elements,
    bytes: ordinary(dtype, elements, elements),
  }));
  const hostile = adversarial(dtype);
  return [...edges, ...(sampled ? hostile.filter(({ label }) => label === "special blocks") : hostile)];
}

async function compare(backend, codec, spec, dtype, { label, elements, bytes }, offset) {
  const where = `${backend.name}: ${JSON.stringify(spec)} of ${dtype}, ${label}, ${elements} elements, ${offset} off`;
  const at = { tensor: 0x0123456789abcdefn, first: 8 * 4096 };
  const room = codec.payloadBytes(spec, dtype, elements);
  const expected = new Uint8Array(room);
  const found = codec.encode(spec, dtype, elements, bytes, expected, at);
  const payload = expected.subarray(0, found.bytes);
  const target = new Uint8Array(offset + room).subarray(offset);
  const job = { codec: spec, dtype, elements };
  // Frames may differ from machine to machine; what is in them may not.
  const packed = addon.packs && !sampled ? new Uint8Array(room) : undefined;
  const made = await backend.encode({ ...job, source: shifted(bytes, offset), target, at, packed });
  for (const [key, value] of Object.entries(found)) {
    if (made[key] !== value) throw new Error(`${key} is ${made[key]}, not ${value}: ${where}`);
  }
  if (found.declined) return;
  if (made.packedBytes > 0) packedToo++;
  const different = firstDifference(target.subarray(0, found.bytes), payload);
  if (different >= 0) throw new Error(`byte ${different} of the payload differs: ${where}`);
  const hash = xxh64(payload);
  if (made.hash !== hash) throw new Error(`the hash differs: ${where}`);
  await compareSums(backend, codec, job, shifted(payload, offset), hash, offset, where);
  for (const output of sampled ? [dtype] : FLOAT_DTYPES) {
    const decoded = new Uint8Array(byteLength(output, elements));
    codec.decode(spec, dtype, elements, payload, output, decoded);
    const back = new Uint8Array(offset + decoded.length).subarray(offset);
    await backend.decode({ ...job, payload: shifted(payload, offset), hash, output, target: back });
    const element = firstDifferentElement(output, back, decoded);
    if (element >= 0) throw new Error(`element ${element} decoded to ${output} differs: ${where}`);
    if (!made.packedBytes) continue;
    back.fill(0);
    const [travelled, unpacked] = [packed.subarray(0, made.packedBytes), new Uint8Array(found.bytes)];
    await backend.decode({ ...job, payload: travelled, unpacked, hash, output, target: back });
    if (firstDifferentElement(output, back, decoded) >= 0) throw new Error(`packed, it differs: ${where}`);
  }
}

/** Sums of the payload, twice over, beside the contract's arithmetic on what the reference decodes. */
async function compareSums(backend, codec, job, payload, hash, offset, where) {
  for (const [output, Kind, round] of [
    ["F32", Float32Array, Math.fround],
    ["F64", Float64Array, (value) => value],
  ]) {
    const values = new Kind(job.elements);
    codec.decode(job.codec, job.dtype, job.elements, payload, output, new Uint8Array(values.buffer));
    const sums = new Kind(offset + job.elements).subarray(offset);
    const expected = new Kind(job.elements);
    let finite = true;
    for (const weight of [0.3, -7]) {
      for (let i = 0; i < expected.length; i++) {
        expected[i] = round(expected[i] + round(round(weight) * values[i]));
      }
      const added = await backend.accumulate({ ...job, payload, hash, weight, accumulator: sums });
      finite = added.finite;
    }
    const seen = await backend.finite({ ...job, payload, hash, output });
    if (finite !== values.every(Number.isFinite) || seen.finite !== finite) {
      throw new Error(`finite or not: ${where}`);
    }
    const given = new Uint8Array(sums.buffer, sums.byteOffset, sums.byteLength);
    if (finite && firstDifferentElement(output, given, new Uint8Array(expected.buffer)) >= 0) {
      throw new Error(`sums of ${output} differ: ${where}`);
    }
  }
}

const addon = loadAddon(path);
if (addon instanceof Error) throw addon;
let compared = 0;
let packedToo = 0;
for (const isa of addon.isas) {
  const backend = loadNativeBackend({ addon: path, isa });
  for (const codec of BUILT_IN_CODECS) {
    for (const dtype of FLOAT_DTYPES.filter((each) => codec.supports(each))) {
      const samples = samplesOf(dtype);
      for (const spec of specVariants(defaultCodecs, codec.name)) {
        for (const sample of samples) {
          await compare(backend, codec, spec, dtype, sample, compared % 5);
          compared++;
        }
      }
    }
  }
}
const too = packedToo > 0 ? `, ${packedToo} of them unpacked too` : "";
console.log(
  `${process.arch}: ${addon.isas.join(", ")}: ${compared} chunks as the reference makes them${too}`,
);
