import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { syncFile, syncFolder } from "../sink/synced.js";
import { isErrno, targetError } from "../sink/target-error.js";

/**
 * What a folder of artifacts remembers over a restart, as JSON in a file beside them. Its name begins with a dot, as no model's
 * does.
 * @returns undefined where there is none.
 * @throws TensorwireError `TARGET_EXISTS` for what is no such record; `TARGET_WRITE`.
 */
export async function readRecord<const S extends v.GenericSchema>(
  path: string,
  schema: S,
): Promise<v.InferOutput<S> | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return undefined;
    throw targetError(cause, path, "cannot read");
  }
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), text);
  if (read.success) return read.output;
  const message = `${quote(path)} cannot be read (${read.issues[0].message}): remove that folder, or choose another one`;
  throw new TensorwireError("TARGET_EXISTS", message);
}

/** Takes the place of the one before, whole. @throws TensorwireError `TARGET_WRITE`, `TARGET_FULL`. */
export async function writeRecord(path: string, record: unknown): Promise<void> {
  try {
    const draft = await open(`${path}.draft`, "w");
    try {
      await draft.writeFile(JSON.stringify(record));
      await syncFile(draft);
    } finally {
      await draft.close();
    }
    await rename(`${path}.draft`, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    throw targetError(cause, path);
  }
}
