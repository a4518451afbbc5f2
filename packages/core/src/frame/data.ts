import { TensorwireError } from "../errors.js";
import type { Limits } from "../limits.js";
import { checkLimit } from "../limits.js";
import { FrameType, HEADER_BYTES, sealHeader } from "./header.js";

/** Bytes of one record, and of the count before them. */
export const RECORD_BYTES = 36;
/** Bytes of the count that a DATA frame's body begins with. */
export const COUNT_BYTES = 4;

/** Small chunks share a frame up to this many bytes and records: the choice of a writer, not a bound of the format. */
export const BATCH_BYTES = 256 * 1024;
/** Most records that share a frame of small chunks. */
export const BATCH_RECORDS = 1024;

const TWO_32 = 2 ** 32;

/** How a payload is wrapped on the wire: as it is, or in the envelope of `packing/envelope.ts`. */
export const Packing = { RAW: 0, ZSTD: 1 } as const;

/** One chunk in a DATA frame. */
export interface ChunkRecord {
  /** Index of the tensor in the manifest. */
  readonly tensor: number;
  /** Index of the chunk's first element in its tensor. */
  readonly firstElement: number;
  /** How many elements. */
  readonly elements: number;
  /** Number of the codec that made the payload. */
  readonly codec: number;
  /** One of `Packing`. */
  readonly packing: number;
  /** Length of the payload, unpacked. */
  readonly payloadBytes: number;
  /** Bytes that follow: the payload's, or its packing's. */
  readonly packedBytes: number;
  /** xxh64 of the unpacked payload. */
  readonly hash: bigint;
}

/**
 * Header and record table of a DATA frame; the packed payloads follow it, in the records' order.
 * @example
 * const record = { tensor: 0, firstElement: 0, elements: 3, codec: 0, packing: Packing.RAW, payloadBytes: 12, packedBytes: 12, hash: 1n };
 * const head = encodeDataHead(1, [record]);
 * const { bodyBytes } = parseHeader(head);
 * const table = head.subarray(HEADER_BYTES, HEADER_BYTES + dataTableBytes(1, bodyBytes, DEFAULT_LIMITS));
 * const [parsed] = parseDataTable(table, bodyBytes);
 * checkPacking(parsed!);
 * console.log(parsed?.elements, parsed?.hash); // 3 1n
 */
export function encodeDataHead(transfer: number, records: readonly ChunkRecord[]): Uint8Array {
  const table = COUNT_BYTES + records.length * RECORD_BYTES;
  const head = new Uint8Array(HEADER_BYTES + table);
  const view = new DataView(head.buffer, HEADER_BYTES);
  view.setUint32(0, records.length, true);
  let payloads = 0;
  records.forEach((record, i) => {
    const at = COUNT_BYTES + i * RECORD_BYTES;
    view.setUint32(at, record.tensor, true);
    view.setUint16(at + 4, record.codec, true);
    view.setUint16(at + 6, record.packing, true);
    // In halves: a BigInt a record costs more than the rest of it.
    view.setUint32(at + 8, record.firstElement % TWO_32, true);
    view.setUint32(at + 12, Math.floor(record.firstElement / TWO_32), true);
    view.setUint32(at + 16, record.elements, true);
    view.setUint32(at + 20, record.payloadBytes, true);
    view.setUint32(at + 24, record.packedBytes, true);
    view.setBigUint64(at + 28, record.hash, true);
    payloads += record.packedBytes;
  });
  sealHeader(
    head,
    { type: FrameType.DATA, transfer, flags: 0, bodyBytes: table + payloads },
    head.subarray(HEADER_BYTES),
  );
  return head;
}

/** Bytes of the record table of a DATA frame that begins with `count`. @throws TensorwireError `PROTOCOL`, `LIMIT_EXCEEDED`. */
export function dataTableBytes(count: number, bodyBytes: number, limits: Limits): number {
  checkLimit(limits, "maxRecords", count, "the number of chunk records in a DATA frame");
  const table = COUNT_BYTES + count * RECORD_BYTES;
  if (count === 0 || table > bodyBytes) {
    throw new TensorwireError("PROTOCOL", `a DATA frame of ${bodyBytes} bytes cannot hold ${count} records`);
  }
  return table;
}

/** The records of a verified table. @throws TensorwireError `PROTOCOL` where the lengths disagree with the frame's. */
export function parseDataTable(table: Uint8Array, bodyBytes: number): ChunkRecord[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const count = view.getUint32(0, true);
  const records: ChunkRecord[] = [];
  let payloads = 0;
  for (let i = 0; i < count; i++) {
    const at = COUNT_BYTES + i * RECORD_BYTES;
    const record = {
      tensor: view.getUint32(at, true),
      codec: view.getUint16(at + 4, true),
      packing: view.getUint16(at + 6, true),
      firstElement: view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * TWO_32,
      elements: view.getUint32(at + 16, true),
      payloadBytes: view.getUint32(at + 20, true),
      packedBytes: view.getUint32(at + 24, true),
      hash: view.getBigUint64(at + 28, true),
    };
    checkPacking(record);
    payloads += record.packedBytes;
    records.push(record);
  }
  if (table.length + payloads !== bodyBytes) {
    throw new TensorwireError(
      "PROTOCOL",
      `a DATA frame of ${bodyBytes} bytes whose records take ${table.length + payloads}`,
    );
  }
  return records;
}

/**
 * What follows a record is taken into memory of its own length: a packing that makes nothing smaller is none.
 * @throws TensorwireError `PROTOCOL`.
 */
export function checkPacking({
  packing,
  payloadBytes,
  packedBytes,
}: Pick<ChunkRecord, "packing" | "payloadBytes" | "packedBytes">): void {
  if (packing === Packing.RAW) {
    if (packedBytes === payloadBytes) return;
  } else if (packing !== Packing.ZSTD) {
    throw new TensorwireError("PROTOCOL", `a chunk record with reserved packing ${packing}`);
  } else if (packedBytes > 0 && packedBytes < payloadBytes) return;
  throw new TensorwireError(
    "PROTOCOL",
    `a chunk record of ${payloadBytes} payload bytes with packing ${packing} to ${packedBytes}`,
  );
}
