import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { syncFolder } from "../sink/synced.js";
import { isErrno, targetError } from "../sink/target-error.js";

/** Beside the artifacts: no model's name begins with a dot. */
const RECORD = ".publication.json";

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
export async function readRecord(folder: string, name: string): Promise<SpoolRecord> {
  const path = join(folder, RECORD);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return { name, next: 1, versions: [] };
    throw targetError(cause, path, "cannot read");
  }
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), RecordSchema), text);
  if (read.success && read.output.name === name) return read.output;
  const whose = read.success
    ? `is of ${quote(read.output.name)}`
    : `cannot be read: ${read.issues[0].message}`;
  const message = `${quote(path)} ${whose}: spool ${quote(name)} elsewhere, or remove that folder`;
  throw new TensorwireError("TARGET_EXISTS", message);
}

/** Takes the place of the one before, whole. @throws TensorwireError `TARGET_WRITE`, `TARGET_FULL`. */
export async function writeRecord(folder: string, record: SpoolRecord): Promise<void> {
  const path = join(folder, RECORD);
  try {
    const draft = await open(`${path}.draft`, "w");
    try {
      await draft.writeFile(JSON.stringify(record));
      await draft.sync();
    } finally {
      await draft.close();
    }
    await rename(`${path}.draft`, path);
    await syncFolder(folder);
  } catch (cause) {
    throw targetError(cause, path);
  }
}
