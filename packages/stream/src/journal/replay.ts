import type { FileHandle } from "node:fs/promises";
import { type JournalHead, MAX_HEAD_BYTES, parseHead, sameTransfer, type WrittenHead } from "./head.js";
import { JournaledChunks } from "./journaled-chunks.js";
import { type JournaledFile, parseRecord, parseRecordHead, RECORD_HEAD_BYTES } from "./record.js";

/** What a journal says. */
export interface Replayed {
  readonly head: WrittenHead;
  /** Part files by name, as the last record that names them does. */
  readonly files: ReadonlyMap<string, JournaledFile>;
  /** The chunks that it holds; undefined where it is about another transfer, or damaged. */
  readonly held: JournaledChunks | undefined;
  /** They are not all of the version that the head names. */
  readonly mixed: boolean;
  /** What the sink had taken, and its file did not have. */
  readonly tail: Uint8Array;
  /** Where the good records end, and the checksum of the last: what the next one is joined to. */
  readonly end: number;
  readonly checksum: bigint;
}

/**
 * Reads a journal up to its first record that is not whole: a checkpoint that was never finished. Every beginning of a
 * journal is true, but for chunks that were forgotten later: up to there, the floor, it must be whole.
 * @param wanted The transfer whose chunks are asked for.
 * @returns Undefined where the file is no journal.
 */
export async function replay(
  file: FileHandle,
  wanted: JournalHead | undefined,
): Promise<Replayed | undefined> {
  const { size } = await file.stat();
  const head = parseHead(await read(file, 0, Math.min(size, MAX_HEAD_BYTES)));
  if (!head) return undefined;
  let held =
    wanted && sameTransfer(head, wanted) ? new JournaledChunks(head.chunks, head.integrity) : undefined;
  const files = new Map<string, JournaledFile>();
  let mixed = false;
  let tail = new Uint8Array(0);
  let end = head.bytes;
  let { checksum } = head;
  while (end + RECORD_HEAD_BYTES <= size) {
    const recordHead = await read(file, end, RECORD_HEAD_BYTES);
    const next = parseRecordHead(recordHead);
    const bodyAt = end + RECORD_HEAD_BYTES;
    if (bodyAt + next.bodyBytes > size) break;
    const record = parseRecord(
      recordHead,
      await read(file, bodyAt, next.bodyBytes),
      checksum,
      head.integrity,
    );
    if (!record) break;
    for (const found of record.files) files.set(found.name, found);
    if (held && !held.add(record.noted, record.runs)) held = undefined;
    for (const range of record.forgotten) held?.delete(range);
    mixed ||= record.mixed;
    tail = record.tail.slice();
    end = bodyAt + next.bodyBytes;
    checksum = next.checksum;
  }
  if (end < head.floor) held = undefined;
  return { head, files, held, mixed, tail, end, checksum };
}

async function read(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) return bytes.subarray(0, done);
    done += bytesRead;
  }
  return bytes;
}
