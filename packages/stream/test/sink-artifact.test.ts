import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Chunk,
  type ChunkRecord,
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeManifest,
  type FrameHeader,
  FrameParser,
  FrameType,
  type Loan,
  PREAMBLE,
  parseManifest,
  parseTotals,
  type TensorInfo,
  TensorwireError,
  type Totals,
  TransferDigest,
  unpooled,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { receiveModel, streamModel } from "../src/index.js";
import { artifactSink } from "../src/sink/artifact.js";
import type { SinkModel } from "../src/sink/sink.js";
import { killed } from "./journal-fixture.js";
import { dataOf, failure, folder, listing, modelOf, noise, smallDisk, TOTALS } from "./sink-fixture.js";

const gone = new TensorwireError("CHANNEL_CLOSED", "the peer went away");
const none = defaultCodecs.get("none").id;

const recordOf = (chunk: Chunk, payload: Uint8Array): ChunkRecord => ({
  tensor: chunk.tensor,
  firstElement: chunk.first,
  elements: chunk.elements,
  codec: none,
  packing: 0,
  payloadBytes: payload.length,
  packedBytes: payload.length,
  hash: xxh64(payload),
});

/** Writes a model whose chunks travelled as `none`; returns what a sender would have said of it at the end. */
async function write(path: string, model: SinkModel, options: { overwrite?: boolean } = {}): Promise<Totals> {
  const data = dataOf(model);
  const digest = new TransferDigest(model.plan);
  const sink = artifactSink(path, options);
  await sink.open(model);
  for (const chunk of model.plan.walk()) {
    const payload = data[chunk.tensor]!.slice(chunk.offset, chunk.offset + chunk.bytes);
    const record = recordOf(chunk, payload);
    digest.add(chunk.ordinal, record.codec, record.hash);
    await sink.writeEncoded(chunk, record, payload);
    // Lent only until then.
    payload.fill(0xee);
  }
  const totals = {
    digest: digest.transfer(model.bytes, model.manifest.tensors.length),
    chunks: model.plan.chunks,
    sourceBytes: model.plan.bytes,
    clamped: 3,
  };
  await sink.finish(totals);
  return totals;
}

interface ReadFrame {
  readonly type: number;
  readonly transfer: number;
  readonly body: Uint8Array;
  readonly records: [ChunkRecord, Uint8Array][];
}

/** The frames of a file, every check passed. */
function framesOf(file: Uint8Array): ReadFrame[] {
  const frames: ReadFrame[] = [];
  const begin = ({ type, transfer }: FrameHeader, body: Uint8Array = new Uint8Array(0)): void =>
    void frames.push({ type, transfer, body: body.slice(), records: [] });
  const parser = new FrameParser(
    {
      admit: (header) => header.type === FrameType.DATA && begin(header),
      control: begin,
      lend: (_, record): Loan => unpooled(new Uint8Array(record.packedBytes)),
      payload: (_, record, loan) => void frames.at(-1)!.records.push([record, loan.bytes]),
    },
    DEFAULT_LIMITS,
  );
  parser.push(file);
  expect(parser.atBoundary).toBe(true);
  return frames;
}

const infos: readonly TensorInfo[] = [
  { name: "large", dtype: "F32", shape: [200_000] },
  { name: "empty", dtype: "F32", shape: [0, 4] },
  { name: "scalar", dtype: "F32", shape: [] },
  ...Array.from(
    { length: 3000 },
    (_, i): TensorInfo => ({ name: `w${i}`, dtype: "U8", shape: [(i % 200) + 1] }),
  ),
  { name: "last", dtype: "I64", shape: [70_000] },
];

describe("an artifact that was interrupted", () => {
  const small = Array.from(
    { length: 9000 },
    (_, i): TensorInfo => ({ name: `w${i}`, dtype: "U8", shape: [(i % 200) + 1] }),
  );
  const model: SinkModel = {
    ...modelOf([...small, { name: "last", dtype: "I64", shape: [150_000] }]),
    version: "v1",
  };

  test("goes on within a frame, whenever the checkpoint came, and is byte for byte as if undisturbed", async () => {
    const straight = join(folder(), "model.twire");
    const totals = await write(straight, model);
    const at = folder();
    const path = join(at, "model.twire");
    const data = dataOf(model);
    // What was written after the last checkpoint, and more: none of it may stay.
    const stops = [700, 1023, 1024, 1025, 5000, 9003, model.plan.chunks];
    const forsaken: ReturnType<typeof artifactSink>[] = [];
    let before = 0;
    let noted = 0;
    for (const stop of stops) {
      const sink = artifactSink(path);
      await sink.open(model);
      const resumable = sink.resumable!;
      const held = resumable.held.reduce((sum, { chunks }) => sum + chunks.length, 0);
      // Of one that was killed, what its last checkpoint took.
      if (before % 2) expect(held).toBe(before);
      else expect(held).toBe(noted);
      noted = held;
      let due = Promise.resolve();
      for (const chunk of model.plan.walk([{ first: held, count: stop - held }])) {
        const payload = data[chunk.tensor]!.slice(chunk.offset, chunk.offset + chunk.bytes);
        const record = recordOf(chunk, payload);
        const written = sink.writeEncoded(chunk, record, payload);
        const checkpoint = (): void => {
          due = resumable.checkpoint();
          noted = chunk.ordinal;
        };
        // Just before a chunk is noted that began another frame: its memory holds the next one already.
        if (written) await written.then(checkpoint);
        payload.fill(0xee);
        resumable.note(chunk, { codec: record.codec, hash: record.hash });
      }
      await due;
      if (stop === model.plan.chunks) await sink.finish({ ...totals, chunks: 0, sourceBytes: 0 });
      else if (stop % 2) await sink.abort(gone);
      else {
        forsaken.push(sink);
        killed(at);
        appendFileSync(`${path}.part`, noise(2_000_000, 1));
      }
      before = stop;
    }
    expect(listing(at)).toEqual(["model.twire"]);
    expect(readFileSync(path).equals(readFileSync(straight))).toBe(true);
    // Their files are open still.
    for (const sink of forsaken) await sink.abort(gone);
  });
});

describe("an artifact", () => {
  test("is what a channel without a way back carries", async () => {
    const at = folder();
    const path = join(at, "model.twire");
    const model = modelOf(infos, { chunkBytes: 512 * 1024, metadata: { a: "b" } });
    const totals = await write(path, model);
    expect(listing(at)).toEqual(["model.twire"]);
    const file = readFileSync(path);
    expect(file.subarray(0, 8).equals(PREAMBLE)).toBe(true);
    const frames = framesOf(file);
    const [hello, manifest, ...rest] = frames;
    const end = rest.pop()!;
    expect(hello!.type).toBe(FrameType.HELLO);
    expect(JSON.parse(Buffer.from(hello!.body).toString())).toMatchObject({
      versions: [1],
      role: "send",
      codecs: ["none"],
    });
    expect(manifest!.type).toBe(FrameType.MANIFEST);
    expect(Buffer.compare(manifest!.body, model.bytes)).toBe(0);
    expect(end.type).toBe(FrameType.END);
    expect(parseTotals("END", end.body)).toEqual(totals);
    expect(new Set(rest.map(({ type }) => type))).toEqual(new Set([FrameType.DATA]));
    expect(new Set([manifest!, ...rest, end].map(({ transfer }) => transfer))).toEqual(new Set([1]));
    const data = dataOf(model);
    const records = rest.flatMap(({ records }) => records);
    const chunks = [...model.plan.walk()];
    expect(records.length).toBe(chunks.length);
    records.forEach(([record, payload], i) => {
      const chunk = chunks[i]!;
      expect(record).toEqual(recordOf(chunk, payload));
      const expected = data[chunk.tensor]!.subarray(chunk.offset, chunk.offset + chunk.bytes);
      expect(Buffer.compare(payload, expected)).toBe(0);
    });
    // Small chunks share frames: 3,000 of them, at most 1,024 or 256 KiB in one.
    expect(rest.length).toBeLessThan(12);
    expect(Math.max(...rest.map(({ records }) => records.length))).toBe(1024);
  });

  test("is the same file for the same model", async () => {
    const at = folder();
    const model = modelOf(infos);
    await write(join(at, "a.twire"), model);
    await write(join(at, "b.twire"), model);
    expect(readFileSync(join(at, "a.twire")).equals(readFileSync(join(at, "b.twire")))).toBe(true);
  });

  test("keeps the manifest's bytes, though ours would be others", async () => {
    const path = join(folder(), "model.twire");
    const model = modelOf([{ name: "w", dtype: "F32", shape: [3] }]);
    // Another encoder's: members in another order, blanks between them.
    const { kind, chunkBytes, codecs, tensors, metadata } = JSON.parse(Buffer.from(model.bytes).toString());
    const bytes = Buffer.from(JSON.stringify({ metadata, tensors, codecs, kind, chunkBytes }, null, 1));
    const { manifest, plan } = parseManifest(bytes, DEFAULT_LIMITS, defaultCodecs);
    expect(Buffer.compare(encodeManifest(manifest), bytes)).not.toBe(0);
    await write(path, { ...model, manifest, plan, bytes });
    expect(Buffer.compare(framesOf(readFileSync(path))[1]!.body, bytes)).toBe(0);
    const to = path.replace(".twire", ".safetensors");
    await receiveModel(path, { to }).done;
    expect(readFileSync(to).subarray(-12).equals(dataOf(model)[0]!)).toBe(true);
  });

  test("of an empty model has no DATA", async () => {
    const path = join(folder(), "model.twire");
    await write(path, modelOf([{ name: "empty", dtype: "F32", shape: [0] }]));
    expect(framesOf(readFileSync(path)).map(({ type }) => type)).toEqual([
      FrameType.HELLO,
      FrameType.MANIFEST,
      FrameType.END,
    ]);
  });

  test("that is received again gives the model that was sent", async () => {
    const at = folder();
    const weights = new Float32Array(300_000).map((_, i) => Math.sin(i));
    const tensors = {
      weights: { dtype: "F32", shape: [300, 1000], data: weights },
      ids: { dtype: "I32", shape: [5], data: Int32Array.of(1, 2, 3, 4, 5) },
    } as const;
    const options = { codec: "normfloat4", chunkBytes: 64 * 1024, windowBytes: 256 * 1024 };
    const sent = await streamModel(tensors, join(at, "sent.twire"), options);
    expect(sent.confirmed).toBe(true);
    const kept = await receiveModel(join(at, "sent.twire"), {
      to: join(at, "kept.twire"),
      windowBytes: 256 * 1024,
    }).done;
    const from = async (name: string): Promise<Buffer> => {
      const to = join(at, `${name}.safetensors`);
      const { digest } = await receiveModel(join(at, name), { to, windowBytes: 256 * 1024 }).done;
      expect([kept.digest, digest]).toEqual([sent.digest, sent.digest]);
      return readFileSync(to);
    };
    expect((await from("sent.twire")).equals(await from("kept.twire"))).toBe(true);
  });
});

describe("an artifact that cannot be written", () => {
  const model = modelOf(infos);

  test("is refused before any data", async () => {
    const at = folder();
    writeFileSync(join(at, "old.twire"), "old");
    const sink = artifactSink(join(at, "old.twire"));
    expect((await failure(sink.open(model))).code).toBe("TARGET_EXISTS");
    await sink.abort(gone);
    const huge = modelOf([{ name: "w", dtype: "I8", shape: [2 ** 50] }], { chunkBytes: 2 ** 29 });
    expect((await failure(artifactSink(join(at, "huge.twire")).open(huge))).code).toBe("TARGET_FULL");
    const converted = { ...model, dtypes: model.dtypes.map(() => "F64" as const) };
    const error = await failure(artifactSink(join(at, "other.twire")).open(converted));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toContain("outputDtype");
    expect(listing(at)).toEqual(["old.twire"]);
  });

  test("leaves nothing when the transfer fails", async () => {
    const at = folder();
    const sink = artifactSink(join(at, "model.twire"));
    await sink.open(model);
    const chunk = model.plan.chunk(0);
    const payload = noise(chunk.bytes, 1);
    await sink.writeEncoded(chunk, recordOf(chunk, payload), payload);
    await sink.abort(gone);
    expect(listing(at)).toEqual([]);
  });

  test("leaves nothing where its name is taken meanwhile, or the disk fills", async () => {
    const at = folder();
    const sink = artifactSink(join(at, "model.twire"));
    await sink.open(model);
    writeFileSync(join(at, "model.twire"), "theirs");
    expect((await failure(sink.finish(TOTALS))).code).toBe("TARGET_EXISTS");
    await sink.abort(gone);
    expect(listing(at)).toEqual(["model.twire"]);
    const disk = smallDisk("size=1m");
    if (!disk) return;
    expect((await failure(write(join(disk, "model.twire"), model))).code).toBe("TARGET_FULL");
    expect(listing(disk)).toEqual([]);
  });
});
