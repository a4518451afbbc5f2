import { type ChunkRange, chunkDigestBytes, type Integrity, xxh64 } from "@tensorwire/core";
import type { FileIdentity } from "./own-file.js";

/** A part file that holds chunks. */
export interface JournaledFile extends FileIdentity {
  /** The name that it will have, without its folder. */
  readonly name: string;
  /** At least so many bytes were durable. */
  readonly size: number;
}

/** What one checkpoint adds. */
export interface JournalRecord {
  /** Its chunks are not all of the version that the head names. */
  readonly mixed: boolean;
  readonly files: readonly JournaledFile[];
  /** Runs of chunks with their digests, as `NotedChunks` collects them. */
  readonly noted: Uint8Array;
  readonly runs: number;
  /** Chunks that are held no more: also those that this record notes. */
  readonly forgotten: readonly ChunkRange[];
  /** What the sink has taken and its file does not have yet. */
  readonly tail: Uint8Array;
}

export const RECORD_HEAD_BYTES = 24;
const COVERED_HEAD_BYTES = 16;
const FLAG_MIXED = 1;
const FILE_BYTES = 34;
const RANGE_BYTES = 8;
const NAME_AT = 32;

export interface RecordHead {
  readonly bodyBytes: number;
  readonly flags: number;
  readonly files: number;
  readonly runs: number;
  readonly forgotten: number;
  readonly checksum: bigint;
}

/**
 * The record as it stands in the file, and its checksum.
 * @param before The checksum of what stands before it: a record is good in its own place only.
 */
export function encodeRecord(record: JournalRecord, before: bigint): { bytes: Uint8Array; checksum: bigint } {
  const names = record.files.map(({ name }) => Buffer.from(name, "utf8"));
  const filesBytes = names.reduce((sum, name) => sum + FILE_BYTES + name.length, 0);
  const rangesBytes = record.forgotten.length * RANGE_BYTES;
  const bodyBytes = filesBytes + record.noted.length + rangesBytes + record.tail.length;
  const bytes = new Uint8Array(RECORD_HEAD_BYTES + bodyBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bodyBytes, true);
  view.setUint16(4, record.mixed ? FLAG_MIXED : 0, true);
  view.setUint16(6, record.files.length, true);
  view.setUint32(8, record.runs, true);
  view.setUint32(12, record.forgotten.length, true);
  let at = RECORD_HEAD_BYTES;
  record.files.forEach(({ dev, ino, birthNs, size }, i) => {
    view.setBigUint64(at, dev, true);
    view.setBigUint64(at + 8, ino, true);
    view.setBigUint64(at + 16, birthNs, true);
    view.setBigUint64(at + 24, BigInt(size), true);
    view.setUint16(at + NAME_AT, names[i]!.length, true);
    bytes.set(names[i]!, at + FILE_BYTES);
    at += FILE_BYTES + names[i]!.length;
  });
  bytes.set(record.noted, at);
  at += record.noted.length;
  for (const { first, count } of record.forgotten) {
    view.setUint32(at, first, true);
    view.setUint32(at + 4, count, true);
    at += RANGE_BYTES;
  }
  bytes.set(record.tail, at);
  const checksum = checksumOf(
    before,
    bytes.subarray(0, COVERED_HEAD_BYTES),
    bytes.subarray(RECORD_HEAD_BYTES),
  );
  view.setBigUint64(COVERED_HEAD_BYTES, checksum, true);
  return { bytes, checksum };
}

export function parseRecordHead(head: Uint8Array): RecordHead {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  return {
    bodyBytes: view.getUint32(0, true),
    flags: view.getUint16(4, true),
    files: view.getUint16(6, true),
    runs: view.getUint32(8, true),
    forgotten: view.getUint32(12, true),
    checksum: view.getBigUint64(COVERED_HEAD_BYTES, true),
  };
}

/** Undefined where the body is not what the head says, in this place. */
export function parseRecord(
  head: Uint8Array,
  body: Uint8Array,
  before: bigint,
  integrity: Integrity,
): JournalRecord | undefined {
  const { flags, files, runs, forgotten, checksum } = parseRecordHead(head);
  if (flags > FLAG_MIXED || checksum !== checksumOf(before, head.subarray(0, COVERED_HEAD_BYTES), body)) {
    return undefined;
  }
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const found: JournaledFile[] = [];
  let at = 0;
  // Its checksum is right, so that it is as it was written: nothing of it can reach past the body.
  for (let i = 0; i < files; i++) {
    const nameBytes = view.getUint16(at + NAME_AT, true);
    found.push({
      dev: view.getBigUint64(at, true),
      ino: view.getBigUint64(at + 8, true),
      birthNs: view.getBigUint64(at + 16, true),
      size: Number(view.getBigUint64(at + 24, true)),
      name: Buffer.from(body.subarray(at + FILE_BYTES, at + FILE_BYTES + nameBytes)).toString(),
    });
    at += FILE_BYTES + nameBytes;
  }
  const notedAt = at;
  for (let i = 0; i < runs; i++)
    at += RANGE_BYTES + view.getUint32(at + 4, true) * chunkDigestBytes(integrity);
  const noted = body.subarray(notedAt, at);
  const ranges: ChunkRange[] = [];
  for (let i = 0; i < forgotten; i++, at += RANGE_BYTES) {
    ranges.push({ first: view.getUint32(at, true), count: view.getUint32(at + 4, true) });
  }
  return {
    mixed: flags === FLAG_MIXED,
    files: found,
    noted,
    runs,
    forgotten: ranges,
    tail: body.subarray(at),
  };
}

function checksumOf(before: bigint, head: Uint8Array, body: Uint8Array): bigint {
  const previous = new Uint8Array(8);
  new DataView(previous.buffer).setBigUint64(0, before, true);
  return xxh64(previous, head, body);
}
