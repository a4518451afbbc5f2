import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { xxh64 } from "@tensorwire/core";
import { expect, test } from "vitest";
import { streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { backend, registry, scratch } from "./packing-fixture.js";

checksLoans();

// A reader of artifacts written from docs/wire-format.md and docs/codecs.md, with nothing of this library but XXH64. It
// undoes the frames that the tests' packer makes: blocks as they are, and runs (RFC 8878, section 3.1.1.2).

interface ReadRecord {
  readonly tensor: number;
  readonly codec: number;
  readonly packing: number;
  readonly first: number;
  readonly elements: number;
  readonly payload: Uint8Array;
}

interface ReadArtifact {
  readonly manifest: { codecs: { name: string }[]; tensors: [string, string, number[], number][] };
  readonly records: readonly ReadRecord[];
  readonly digest: bigint;
}

/** Lengths of the parts that a payload is packed in. */
type Segments = (codec: number, elements: number, payloadBytes: number) => number[];

function readArtifact(file: Uint8Array, segments: Segments): ReadArtifact {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  let manifest: ReadArtifact["manifest"] | undefined;
  const records: ReadRecord[] = [];
  for (let at = 8; ; ) {
    const [type, bytes] = [view.getUint8(at + 1), view.getUint32(at + 8, true)];
    const body = at + 24;
    at = body + bytes;
    if (type === 2) manifest = JSON.parse(Buffer.from(file.subarray(body, at)).toString());
    if (type === 5) return { manifest: manifest!, records, digest: view.getBigUint64(body, true) };
    if (type !== 4) continue;
    const count = view.getUint32(body, true);
    let payload = body + 4 + 36 * count;
    for (let i = 0; i < count; i++) {
      const record = body + 4 + 36 * i;
      const codec = view.getUint16(record + 4, true);
      const packing = view.getUint16(record + 6, true);
      const elements = view.getUint32(record + 16, true);
      const [whole, packed] = [view.getUint32(record + 20, true), view.getUint32(record + 24, true)];
      const travelled = file.subarray(payload, payload + packed);
      const unpacked = packing === 1 ? unpack(travelled, segments(codec, elements, whole)) : travelled;
      expect(unpacked.length).toBe(whole);
      expect(xxh64(unpacked)).toBe(view.getBigUint64(record + 28, true));
      const first = Number(view.getBigUint64(record + 8, true));
      records.push({
        tensor: view.getUint32(record, true),
        codec,
        packing,
        first,
        elements,
        payload: unpacked,
      });
      payload += packed;
    }
    expect(payload).toBe(at);
  }
}

function unpack(envelope: Uint8Array, segments: readonly number[]): Uint8Array {
  const view = new DataView(envelope.buffer, envelope.byteOffset, envelope.length);
  let at = 4 * segments.length;
  const parts = segments.map((length, i) => {
    const packed = view.getUint32(4 * i, true);
    const part = envelope.subarray(at, (at += packed));
    return packed === length ? part : unpackFrame(part, length);
  });
  expect(at).toBe(envelope.length);
  return Buffer.concat(parts);
}

function unpackFrame(frame: Uint8Array, length: number): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  expect(view.getUint32(0, true)).toBe(0xfd2fb528);
  expect([frame[4], view.getUint32(5, true)]).toEqual([0xa0, length]);
  const blocks: Uint8Array[] = [];
  let at = 9;
  for (let last = 0; !last; ) {
    const header = view.getUint16(at, true) + frame[at + 2]! * 65536;
    at += 3;
    last = header % 2;
    const [type, size] = [Math.floor(header / 2) % 4, Math.floor(header / 8)];
    expect(type).toBeLessThan(2);
    blocks.push(type === 1 ? new Uint8Array(size).fill(frame[at]!) : frame.subarray(at, at + size));
    at += type === 1 ? 1 : size;
  }
  expect(at).toBe(frame.length);
  return Buffer.concat(blocks);
}

test("a packed artifact is read by the wire format's page alone", async () => {
  const path = join(await scratch(), "model.twire");
  const ELEMENTS = 20_000;
  const values = Float32Array.from({ length: ELEMENTS }, (_, i) => (i % 6000 < 4000 ? 0 : Math.sin(i)));
  const broken = values.slice();
  // A NaN with a payload in the middle of three chunks, and a negative zero beside it.
  new Uint32Array(broken.buffer).set([0x7fabcdef, 0x80000000], 9000);
  const ids = new Int32Array(9000).map((_, i) => (i % 300 < 200 ? 5 : i));
  const tensor = (data: Float32Array | Int32Array, dtype: "F32" | "I32") => ({
    dtype,
    shape: [data.length],
    data,
  });
  const model = { exact: tensor(values, "F32"), broken: tensor(broken, "F32"), ids: tensor(ids, "I32") };
  const policy = {
    rules: [
      { match: "exact", codec: "lossless" },
      { match: "ids", codec: "none" },
    ],
    codec: { name: "normfloat4", block: 64 },
  };
  const options = { registry, backend, policy, chunkBytes: 32768, compress: "auto" } as const;
  const summary = await streamModel(model, path, options);

  const segments: Segments = (codec, elements, payloadBytes) => {
    if (codec === 7) return [elements, elements, elements, elements];
    if (codec === 0) return [payloadBytes];
    const scales = 4 * Math.ceil(elements / 64);
    return [scales, payloadBytes - scales];
  };
  const { manifest, records, digest } = readArtifact(await readFile(path), segments);
  expect(digest.toString(16).padStart(16, "0")).toBe(summary.digest);
  expect(records.filter(({ packing }) => packing === 1)).toHaveLength(summary.packedChunks);
  expect(records.map(({ codec }) => codec)).toEqual([7, 7, 7, 5, 7, 5, 0, 0]);
  for (const { tensor, codec, first, elements, payload } of records) {
    const [name] = manifest.tensors[tensor]!;
    const { data } = model[name as keyof typeof model];
    const source = Buffer.from(data.buffer, 4 * first, 4 * elements);
    if (codec === 5) continue;
    const bytes = new Uint8Array(4 * elements);
    for (let i = 0; i < bytes.length; i++) {
      // Plane k holds byte k of every element.
      bytes[i] = codec === 0 ? payload[i]! : payload[(i % 4) * elements + Math.floor(i / 4)]!;
    }
    expect(source.equals(bytes), `${name} from ${first}`).toBe(true);
  }
});
