import { createHash } from "node:crypto";
import { type ChunkPlan, type Integrity, xxh64 } from "@tensorwire/core";
import type { SinkModel } from "../sink/sink.js";

/** What a journal is about: all of it, but for the version, must be the same for an attempt to go on from another. */
export interface JournalHead {
  /** SHA-256 of the MANIFEST's body. */
  readonly manifest: Uint8Array;
  /** SHA-256 of what decides where a chunk's bytes lie: the kind of sink, and the headers of its files. */
  readonly layout: Uint8Array;
  readonly chunks: number;
  /** The version token that the sender gave its source. */
  readonly version: string | undefined;
}

/** A head as it stands in a file. */
export interface WrittenHead extends JournalHead {
  /** What the digests of its chunks hold. */
  readonly integrity: Integrity;
  /** The records must be whole up to here, or nothing of them is believed. */
  readonly floor: number;
  /** Where the records begin, and what the checksum of the first one covers. */
  readonly bytes: number;
  readonly checksum: bigint;
}

/** `\x89TWJ\r\n\x1a\n` */
const MAGIC = Uint8Array.of(0x89, 0x54, 0x57, 0x4a, 0x0d, 0x0a, 0x1a, 0x0a);
const FORMAT = 1;
const FLAG_SHA256 = 1;

const FLAGS_AT = 10;
const CHUNKS_AT = 12;
/** The floor is written anew in its place; everything else is written once. */
export const FLOOR_AT = 16;
const MANIFEST_AT = 32;
const LAYOUT_AT = 64;
const TOKEN_AT = 96;
const FIXED_BYTES = 98;
const CHECKSUM_BYTES = 8;

/** A token is at most 128 UTF-16 code units. */
export const MAX_TOKEN_BYTES = 3 * 128;
/** In the place of a token, where the chunks were found without a journal. Longer than any token. */
export const RECOVERED = "recovered ".repeat(13);

/** The longest head. */
export const MAX_HEAD_BYTES = FIXED_BYTES + MAX_TOKEN_BYTES + CHECKSUM_BYTES;

/** @param layout Kind of sink, and the bytes that its files begin with. */
export function journalHead(
  { bytes, plan, version }: SinkModel,
  layout: Iterable<string | Uint8Array>,
): JournalHead & { readonly plan: ChunkPlan } {
  const places = createHash("sha256");
  for (const part of layout) {
    // With its length: what is divided otherwise is something else.
    places.update(`${part.length}:`).update(part);
  }
  const manifest = createHash("sha256").update(bytes).digest();
  return { manifest, layout: places.digest(), chunks: plan.chunks, version, plan };
}

export function sameTransfer(one: JournalHead, other: JournalHead): boolean {
  const alike = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
  return (
    one.chunks === other.chunks && alike(one.manifest, other.manifest) && alike(one.layout, other.layout)
  );
}

export function encodeHead(
  { manifest, layout, chunks, version }: JournalHead,
  integrity: Integrity,
): Uint8Array {
  const token = Buffer.from(version ?? "", "utf8");
  const head = new Uint8Array(FIXED_BYTES + token.length + CHECKSUM_BYTES);
  const view = new DataView(head.buffer);
  head.set(MAGIC);
  view.setUint16(MAGIC.length, FORMAT, true);
  view.setUint16(FLAGS_AT, integrity === "sha256" ? FLAG_SHA256 : 0, true);
  view.setUint32(CHUNKS_AT, chunks, true);
  head.set(encodeFloor(0), FLOOR_AT);
  head.set(manifest, MANIFEST_AT);
  head.set(layout, LAYOUT_AT);
  view.setUint16(TOKEN_AT, token.length, true);
  head.set(token, FIXED_BYTES);
  view.setBigUint64(head.length - CHECKSUM_BYTES, checksumOf(head), true);
  return head;
}

/** The floor with its own checksum: nothing else in the head changes. */
export function encodeFloor(floor: number): Uint8Array {
  const bytes = new Uint8Array(MANIFEST_AT - FLOOR_AT);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(floor), true);
  view.setBigUint64(8, xxh64(bytes.subarray(0, 8)), true);
  return bytes;
}

/** @param file The journal's first bytes, at most `MAX_HEAD_BYTES`. Undefined where they are no head. */
export function parseHead(file: Uint8Array): WrittenHead | undefined {
  if (file.length < FIXED_BYTES || Buffer.compare(file.subarray(0, MAGIC.length), MAGIC) !== 0)
    return undefined;
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const flags = view.getUint16(FLAGS_AT, true);
  if (view.getUint16(MAGIC.length, true) !== FORMAT || flags > FLAG_SHA256) return undefined;
  const tokenBytes = view.getUint16(TOKEN_AT, true);
  const bytes = FIXED_BYTES + tokenBytes + CHECKSUM_BYTES;
  if (tokenBytes > MAX_TOKEN_BYTES || file.length < bytes) return undefined;
  const checksum = view.getBigUint64(bytes - CHECKSUM_BYTES, true);
  if (checksum !== checksumOf(file.subarray(0, bytes))) return undefined;
  const floor = view.getBigUint64(FLOOR_AT, true);
  const floorHolds = view.getBigUint64(FLOOR_AT + 8, true) === xxh64(file.subarray(FLOOR_AT, FLOOR_AT + 8));
  return {
    manifest: file.slice(MANIFEST_AT, LAYOUT_AT),
    layout: file.slice(LAYOUT_AT, TOKEN_AT),
    chunks: view.getUint32(CHUNKS_AT, true),
    version: tokenBytes
      ? Buffer.from(file.subarray(FIXED_BYTES, FIXED_BYTES + tokenBytes)).toString()
      : undefined,
    integrity: flags & FLAG_SHA256 ? "sha256" : "xxh64",
    // One that is damaged is above everything.
    floor: floorHolds ? Number(floor) : Number.POSITIVE_INFINITY,
    bytes,
    checksum,
  };
}

function checksumOf(head: Uint8Array): bigint {
  return xxh64(head.subarray(0, FLOOR_AT), head.subarray(MANIFEST_AT, head.length - CHECKSUM_BYTES));
}
