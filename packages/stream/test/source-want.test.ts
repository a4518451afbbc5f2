import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BufferPool, type ChunkRange, defaultCodecs, type Loan, type Tensor } from "@tensorwire/core";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type EncodedSource,
  memoryChannelPair,
  receiveModel,
  type StreamOptions,
  streamModel,
} from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import type { ByteRange, ByteReader } from "../src/source/byte-reader.js";
import { FileReader } from "../src/source/file-reader.js";
import { artifactFrames } from "./artifact-file.js";
import { BrokenLine } from "./broken-line.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import { pattern } from "./source-reading.js";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-want-"));
  path = join(folder, "model.twire");
});
afterEach(() => rm(folder, { recursive: true }));

const CHUNK = 32_768;
const tensors: Tensor[] = [
  { name: "a", dtype: "U8", shape: [300_000], data: pattern(300_000) },
  { name: "b", dtype: "U8", shape: [100], data: pattern(100) },
];

/** A file that tells what it is told, and in which order it is read. */
class Told implements ByteReader {
  readonly name = "told";
  readonly size: number;
  readonly events: ({ expected: readonly ByteRange[] } | { read: ByteRange })[] = [];
  readonly version: string;

  constructor(private readonly file: FileReader) {
    this.size = file.size;
    this.version = file.version;
  }

  expect(expected: Iterable<ByteRange>): void {
    this.events.push({ expected: [...expected] });
  }

  read(position: number, bytes: number, pool: BufferPool): Loan | Promise<Loan> {
    this.events.push({ read: { position, bytes } });
    return this.file.read(position, bytes, pool);
  }

  readInto(position: number, target: Uint8Array): Promise<void> {
    return this.file.readInto(position, target);
  }

  forget(): void {
    this.file.forget();
  }

  verify(): Promise<void> {
    return this.file.verify();
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function send(source: EncodedSource, disk: Disk, breaksAfter?: number, options: StreamOptions = {}) {
  const [a, b] = memoryChannelPair(10_007);
  const line = new BrokenLine(a, breaksAfter ?? Number.POSITIVE_INFINITY);
  const sending = streamModel(source, line, { windowBytes: 4 * CHUNK, ...options });
  const { done } = receiveModel(b, { windowBytes: 4 * CHUNK, to: new ResumableSink(disk) });
  const results = await Promise.allSettled([sending, done]);
  await Promise.all([a.close(), b.close()]);
  return results.map(({ status }) => status);
}

test("the reader under an artifact is told which bytes each connection will take, before the first read", async () => {
  const { bytes, payloads, plan } = artifactFrames({ tensors, chunkBytes: CHUNK, recordsPerFrame: 3 });
  await writeFile(path, bytes);
  const told: Told[] = [];
  const opened = () =>
    artifactSource({
      name: "elsewhere",
      open: async () => {
        told.push(new Told(await FileReader.open(path)));
        return told.at(-1)!;
      },
    });
  const disk = new Disk();
  expect(await send(opened(), disk, 200_000)).toEqual(["rejected", "rejected"]);
  expect(await send(opened(), disk)).toEqual(["fulfilled", "fulfilled"]);
  expect(Buffer.concat(disk.tensors.map((tensor) => Buffer.from(tensor)))).toEqual(Buffer.concat(payloads));

  const [first, second] = told.map(({ events }) => {
    const [announced, ...others] = events;
    if (!announced || !("expected" in announced)) throw new Error("it was read before it was told");
    return {
      ranges: announced.expected,
      reads: others.map((event) => ("read" in event ? event.read : event)),
    };
  });
  // One for each read, so that none begins in one range and ends in the next.
  expect(first!.ranges).toHaveLength(plan.chunks);
  expect(sum(first!.ranges)).toBe(plan.bytes);
  expect(second!.reads.length).toBeLessThan(plan.chunks);
  expect(sum(second!.ranges)).toBe(sum(second!.reads as ByteRange[]));
  for (const { position, bytes: length } of second!.reads as ByteRange[]) {
    const within = (range: ByteRange) =>
      range.position <= position && position + length <= range.position + range.bytes;
    expect(second!.ranges.some(within)).toBe(true);
  }
});

const sum = (ranges: readonly ByteRange[]): number => ranges.reduce((total, { bytes }) => total + bytes, 0);

test.each<[string, StreamOptions]>([
  ["of an artifact as it is", {}],
  ["of which a chunk size was asked", { chunkBytes: CHUNK }],
  ["that is encoded again", { codec: "none" }],
])("a source %s is told what is wanted", async (_how, options) => {
  const { bytes, plan } = artifactFrames({ tensors, chunkBytes: CHUNK });
  await writeFile(path, bytes);
  const wanted: (readonly ChunkRange[])[] = [];
  const artifact = artifactSource(path, { registry: defaultCodecs });
  artifact.want = (runs) => void wanted.push(runs);
  await send(artifact, new Disk(), undefined, options);
  expect(wanted).toEqual([[{ first: 0, count: plan.chunks }]]);
});

test("so is one whose reader has no way to answer", async () => {
  const { bytes, plan } = artifactFrames({ tensors, chunkBytes: CHUNK });
  await writeFile(path, bytes);
  const wanted: (readonly ChunkRange[])[] = [];
  const artifact = artifactSource(path);
  artifact.want = (runs) => void wanted.push(runs);
  await streamModel(artifact, join(folder, "copy.twire"));
  expect(wanted).toEqual([[{ first: 0, count: plan.chunks }]]);
});
