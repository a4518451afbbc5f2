import { mkdir, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import type * as v from "valibot";
import { readRecord, writeRecord } from "../server/record-file.js";
import { targetError } from "../sink/target-error.js";

const SUFFIX = ".json";

/** Of a record, by its id: of another name it would be somebody else's. */
const DRAFT = /^[A-Za-z0-9_-]{8,64}\.json\.draft$/;

/** Records that outlast the process, each a file that is replaced whole. */
export class RecordFolder<const S extends v.GenericSchema> {
  /** Of each record, what is being done to its file: one after the other. */
  readonly #working = new Map<string, Promise<unknown>>();

  private constructor(
    readonly path: string,
    private readonly schema: S,
  ) {}

  /** @throws TensorwireError `TARGET_WRITE`. */
  static async open<const S extends v.GenericSchema>(path: string, schema: S): Promise<RecordFolder<S>> {
    try {
      await mkdir(path, { recursive: true, mode: 0o700 });
      // What was being written when an earlier process died has never been anybody's.
      for (const file of await readdir(path)) if (DRAFT.test(file)) await unlink(join(path, file));
    } catch (cause) {
      throw targetError(cause, path);
    }
    return new RecordFolder(path, schema);
  }

  /** @throws TensorwireError `TARGET_EXISTS` for what is no record, `TARGET_WRITE`. */
  async all(): Promise<Map<string, v.InferOutput<S>>> {
    const records = new Map<string, v.InferOutput<S>>();
    for (const file of (await readdir(this.path)).sort()) {
      if (!file.endsWith(SUFFIX)) continue;
      const record = await readRecord(join(this.path, file), this.schema);
      if (record !== undefined) records.set(file.slice(0, -SUFFIX.length), record);
    }
    return records;
  }

  /** @throws TensorwireError `TARGET_WRITE`, `TARGET_FULL`. */
  write(id: string, record: v.InferOutput<S>): Promise<void> {
    return this.#inTurn(id, () => writeRecord(join(this.path, id + SUFFIX), record));
  }

  /** Never rejects: what stays is looked at again when the agent is started anew. */
  remove(id: string): Promise<void> {
    return this.#inTurn(id, () => unlink(join(this.path, id + SUFFIX)).catch(() => {}));
  }

  #inTurn(id: string, work: () => Promise<void>): Promise<void> {
    const working = (this.#working.get(id) ?? Promise.resolve()).then(work);
    const settled = working.catch(() => {});
    this.#working.set(id, settled);
    void settled.then(() => {
      if (this.#working.get(id) === settled) this.#working.delete(id);
    });
    return working;
  }
}
