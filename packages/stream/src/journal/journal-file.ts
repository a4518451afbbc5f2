import { type FileHandle, open, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { Integrity } from "@tensorwire/core";
import { syncData, syncFolder } from "../sink/synced.js";
import { writeAll } from "../sink/write-all.js";
import { encodeFloor, encodeHead, FLOOR_AT, type JournalHead, parseHead } from "./head.js";
import { encodeRecord, type JournalRecord } from "./record.js";
import type { Replayed } from "./replay.js";

/** A journal's file: what is appended to it is durable when that resolves. */
export class JournalFile {
  private constructor(
    private readonly path: string,
    private readonly handle: FileHandle,
    private end: number,
    private checksum: bigint,
  ) {}

  /** Always a new file, and this user's own: what was put there is neither followed nor added to. */
  static async create(path: string, about: JournalHead, integrity: Integrity): Promise<JournalFile> {
    const head = encodeHead(about, integrity);
    const handle = await open(path, "wx+", 0o600);
    try {
      await writeAll(handle, [head], 0);
      await syncFolder(dirname(path));
    } catch (cause) {
      await handle.close();
      await unlink(path).catch(() => {});
      throw cause;
    }
    return new JournalFile(path, handle, head.length, parseHead(head)!.checksum);
  }

  /** Goes on after the last good record; what is behind it is written over. */
  static goOn(path: string, handle: FileHandle, { end, checksum }: Replayed): JournalFile {
    return new JournalFile(path, handle, end, checksum);
  }

  async append(record: JournalRecord): Promise<void> {
    const { bytes, checksum } = encodeRecord(record, this.checksum);
    await writeAll(this.handle, [bytes], this.end);
    await syncData(this.handle);
    this.end += bytes.length;
    this.checksum = checksum;
  }

  /** From now on a journal that is damaged before this place is not believed: it would not know what was forgotten. */
  async raiseFloor(): Promise<void> {
    await writeAll(this.handle, [encodeFloor(this.end)], FLOOR_AT);
    await syncData(this.handle);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async remove(): Promise<void> {
    await unlink(this.path);
  }
}
