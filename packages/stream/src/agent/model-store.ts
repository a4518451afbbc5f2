import { stat, unlink } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { PART_SUFFIX } from "../journal/leftover.js";
import type { Publication } from "../server/publications.js";
import { artifactSource } from "../source/artifact.js";
import { safetensorsSource } from "../source/safetensors.js";
import type { EncodedSource, ModelSource } from "../source/source.js";
import type { Exchange } from "./exchange.js";
import { RecordFolder } from "./record-folder.js";
import { REFERENCE_FORM, type Reference } from "./reference.js";
import { type StoredModel, StoredSchema, TAKEN_SUFFIX, takenError } from "./stored-model.js";

/** Models that are published from here, and not freed, or that somebody still has. */
export const MAX_MODELS = 4096;

/** Those of one principal among them. */
export const MAX_OWNER_MODELS = 1024;

/** A model that is being written. */
interface Making {
  readonly owner: string | undefined;
  writers: number;
  /** It was freed before it was here. */
  forsaken: boolean;
}

export interface StoreParts {
  readonly exchange: Exchange;
  readonly records: RecordFolder<typeof StoredSchema>;
  /** A label for references. */
  readonly home: () => string | null;
}

/** The models that are published from here: their files, and for how long those stay. */
export class ModelStore {
  readonly #models = new Map<string, StoredModel>();
  readonly #readers = new Map<string, number>();
  /** Ids of files that are being written, and for whom, once for each who writes: a body that has arrived is published in the name of its request. */
  readonly #making = new Map<string, Making>();
  /** Ids of models whose very file a program has been given. */
  held: (id: string) => boolean = () => false;

  private constructor(private readonly parts: StoreParts) {}

  /** @param directory The agent's. @throws TensorwireError `TARGET_WRITE`, `TARGET_EXISTS`. */
  static async open(directory: string, parts: Omit<StoreParts, "records">): Promise<ModelStore> {
    const records = await RecordFolder.open(directory, StoredSchema);
    const store = new ModelStore({ ...parts, records });
    for (const [id, model] of await records.all()) {
      const there = await stat(store.pathOf(model)).catch(() => undefined);
      // What lay in memory does not outlast the machine.
      if (there) store.#models.set(id, model);
      else await records.remove(id);
    }
    return store;
  }

  pathOf({ file }: Pick<StoredModel, "file">): string {
    return this.parts.exchange.own(file);
  }

  list(): { readonly ref: Reference; readonly storedBytes: number; readonly readers: number }[] {
    return [...this.#models.values()]
      .filter(({ freed }) => !freed)
      .map((model) => ({
        ref: this.reference(model),
        storedBytes: model.storedBytes,
        readers: this.#readers.get(model.id) ?? 0,
      }));
  }

  reference({ name, id, digest, bytes, expires }: StoredModel): Reference {
    const home = this.parts.home();
    return {
      ...{ tensorwire: REFERENCE_FORM, name, transfer: id, digest, bytes, home },
      expires: Math.ceil(expires / 1000),
    };
  }

  /** Whether the id is a model's here, also of one that is freed and that somebody still has. */
  has(id: string): boolean {
    return this.#models.has(id);
  }

  /** The model of that id, whatever its name. */
  get(id: string): StoredModel | undefined {
    const model = this.#models.get(id);
    return model && !model.freed && model.expires > Date.now() ? model : undefined;
  }

  /** @throws TensorwireError `NOT_FOUND`. */
  find(name: string, id: string): StoredModel {
    const model = this.get(id);
    if (model?.name === name) return model;
    throw new TensorwireError(
      "NOT_FOUND",
      `there is no model ${quote(name)} of transfer ${id} here: it was freed, or never here`,
    );
  }

  /**
   * There is a place for that model.
   * @throws TensorwireError `SERVER_BUSY` where there are too many, in all or of that owner.
   */
  checkRoom(id: string | undefined, owner?: string): void {
    if (id !== undefined && (this.has(id) || this.#making.has(id))) return;
    const coming = [...this.#making].filter(([each]) => !this.has(each)).map(([, { owner }]) => owner);
    const owners = [...[...this.#models.values()].map(({ owner }) => owner), ...coming];
    const theirs = owners.filter((each) => each === owner).length;
    if (owners.length >= MAX_MODELS) throw full(`there are ${owners.length} models here`);
    if (owner === undefined || theirs < MAX_OWNER_MODELS) return;
    throw full(`there are ${theirs} models of ${quote(owner)} here`);
  }

  /**
   * Somebody writes the files of that id: they are not swept meanwhile, and there is a place for the model.
   * @returns what to call, once, when that is over. @throws what `checkRoom` does.
   */
  make(id: string, owner?: string): () => void {
    this.checkRoom(id, owner);
    const making = this.#making.get(id) ?? { owner, writers: 0, forsaken: false };
    making.writers++;
    this.#making.set(id, making);
    return () => {
      if (--making.writers > 0) return;
      this.#making.delete(id);
      if (making.forsaken) void this.#discard(id);
    };
  }

  /** The same, as long as `work` goes on. */
  async making<T>(id: string, work: () => Promise<T>): Promise<T> {
    const over = this.make(id);
    try {
      return await work();
    } finally {
      over();
    }
  }

  /**
   * Its file is there, whole: from when that is durable it is published.
   * @throws TensorwireError `TARGET_EXISTS` where another one has taken its id meanwhile; `ABORTED` where it was freed before it was here.
   */
  async add(model: Omit<StoredModel, "storedBytes">): Promise<StoredModel> {
    if (this.has(model.id)) throw takenError(model.id);
    if (this.#making.get(model.id)?.forsaken) {
      throw new TensorwireError(
        "ABORTED",
        `the model of transfer ${quote(model.id)} was freed before it was here`,
      );
    }
    const { size: storedBytes } = await stat(this.pathOf(model));
    const stored = { ...model, storedBytes };
    await this.parts.records.write(model.id, stored);
    this.#models.set(model.id, stored);
    return stored;
  }

  /** For who fetches it: from when it is opened it stays until that is over. */
  publication(model: StoredModel): Publication {
    const { id, chunkBytes, integrity, compress } = model;
    const encoded = model.file.endsWith(".twire");
    let leave: (() => void) | undefined;
    const enter = (): void => {
      leave ??= this.#enter(id);
    };
    return {
      options: encoded ? { version: id } : { codec: "none", chunkBytes, integrity, compress, version: id },
      open: () => {
        enter();
        return this.source(model);
      },
      ...(encoded && {
        file: async () => {
          enter();
          return { path: this.pathOf(model), tag: id };
        },
      }),
      leave: () => leave?.(),
    };
  }

  /** Somebody has it from now on. @returns what to call, once, when that is over. */
  #enter(id: string): () => void {
    this.#readers.set(id, (this.#readers.get(id) ?? 0) + 1);
    return () => {
      this.#readers.set(id, this.#readers.get(id)! - 1);
      void this.release(id);
    };
  }

  /** The same, for who reads it here. @throws what `read` does. */
  async reading<T>(
    model: StoredModel,
    read: (source: ModelSource | EncodedSource) => Promise<T>,
  ): Promise<T> {
    const leave = this.#enter(model.id);
    try {
      return await read(this.source(model));
    } finally {
      leave();
    }
  }

  source(model: StoredModel): ModelSource | EncodedSource {
    const path = this.pathOf(model);
    return model.file.endsWith(".twire") ? artifactSource(path) : safetensorsSource(path);
  }

  /** @returns how many there were of that name, and of that id where one is given. */
  async free(name: string, id?: string): Promise<number> {
    const found = [...this.#models.values()].filter(
      (model) => model.name === name && !model.freed && (id === undefined || model.id === id),
    );
    for (const model of found) await this.#free(model);
    return found.length;
  }

  /**
   * Removes what there is of a model that is not here, and will not be: one that is on its way does not become one any more.
   * @param may Whether whoever asks may do that to one of that owner.
   */
  async forsake(id: string, may: (made: Pick<StoredModel, "owner">) => boolean): Promise<void> {
    const making = this.#making.get(id);
    if (making) making.forsaken ||= may(making);
    else await this.#discard(id);
  }

  async #discard(id: string): Promise<void> {
    const { exchange } = this.parts;
    if (this.has(id) || this.#making.has(id)) return;
    for (const end of [".safetensors", ".twire"]) await exchange.discard(exchange.own(id + end));
  }

  async #free(model: StoredModel): Promise<void> {
    model.freed = true;
    await this.parts.records.write(model.id, model);
    await this.release(model.id);
  }

  /** Removes the model if it was freed, and nobody has it any more. */
  async release(id: string): Promise<void> {
    const model = this.#models.get(id);
    if (!model?.freed || this.#readers.get(id) || this.held(id)) return;
    this.#models.delete(id);
    this.#readers.delete(id);
    await unlink(this.pathOf(model)).catch(() => {});
    await this.parts.records.remove(id);
  }

  /** Frees what has expired, and removes files that belong to no model. @param before What was touched later stays. */
  async sweep(now: number, before: number): Promise<void> {
    for (const model of [...this.#models.values()]) {
      if (!model.freed && model.expires <= now) await this.#free(model);
      else await this.release(model.id);
    }
    const ours = new Set([...this.#models.values()].map(({ file }) => file));
    for (const file of await this.parts.exchange.ownFiles()) {
      if (file.startsWith(".") || ours.has(file) || this.#making.has(file.split(".")[0]!)) continue;
      const path = this.parts.exchange.own(file);
      const stats = await stat(path).catch(() => undefined);
      // One that is whole, and of no model, is of a process that died before it could say so; others may be gone on with, but
      // for the bodies of requests.
      const goesOn = file.includes(PART_SUFFIX) && !file.includes(TAKEN_SUFFIX);
      const stray = stats && (!goesOn || stats.mtimeMs < before);
      if (stray) await unlink(path).catch(() => {});
    }
  }
}

const full = (why: string): TensorwireError =>
  new TensorwireError(
    "SERVER_BUSY",
    `${why} that nobody has freed (DELETE /v1/models/NAME), as many as this agent takes: try again later`,
  );
