import { join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { readRecord, writeRecord } from "./record-file.js";

export const SPOOL_RECORD = ".publication.json";

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

const VersionSchema = v.object({
  version: Count,
  /** Drawn at random: no other version, of any server, has it. */
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  /** The source's version token, where it had one. */
  source: v.optional(v.pipe(v.string(), v.maxLength(128))),
  /** What else its artifacts are made by. */
  encoding: v.string(),
  /** When, in milliseconds since 1970. */
  published: v.number(),
  /** The codecs that may be had of it. */
  codecs: v.array(v.string()),
});

const RecordSchema = v.object({
  name: v.string(),
  /** The number that the next version gets: none is used twice. */
  next: Count,
  versions: v.array(VersionSchema),
});

export type VersionRecord = v.InferOutput<typeof VersionSchema>;

/** What a spool remembers over a restart of the server: which versions its artifacts are of. */
export type SpoolRecord = v.InferOutput<typeof RecordSchema>;

/** @throws TensorwireError `TARGET_EXISTS` for a record that is none, or another model's; `TARGET_WRITE`. */
export async function readSpool(folder: string, name: string): Promise<SpoolRecord> {
  const path = join(folder, SPOOL_RECORD);
  const record = await readRecord(path, RecordSchema);
  if (!record || record.name === name) return record ?? { name, next: 1, versions: [] };
  const message = `${quote(path)} is of ${quote(record.name)}: spool ${quote(name)} elsewhere, or remove that folder`;
  throw new TensorwireError("TARGET_EXISTS", message);
}

/** @throws TensorwireError `TARGET_WRITE`, `TARGET_FULL`. */
export function writeSpool(folder: string, record: SpoolRecord): Promise<void> {
  return writeRecord(join(folder, SPOOL_RECORD), record);
}
