import { mkdir, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import {
  formatDigest,
  type Manifest,
  modelNameFault,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import * as v from "valibot";
import type { ResolvedOptions } from "../options.js";
import { PART_SUFFIX } from "../journal/leftover.js";
import { Lock } from "../sink/lock.js";
import { type EncodedSink, isEncodedSink } from "../sink/sink.js";
import { targetError } from "../sink/target-error.js";
import { ArrivedSink } from "./arrived-sink.js";
import type { CollectOptions } from "./collect-options.js";
import { type CollectedModel, collectedModel, recoveredModel, sourceOf } from "./collected-model.js";
import { checkUpdate } from "./expected-model.js";
import { finiteSink, tellsFinite } from "./finite-sink.js";
import { meteredSink } from "./metered-sink.js";
import { readRecord, writeRecord } from "./record-file.js";
import { Scratch } from "./scratch.js";
import type { SpoolRoom } from "./spool-room.js";
import { UpdateForms } from "./update-form.js";
import { UploadFolder } from "./upload-folder.js";

const ARTIFACT = ".twire";
const LOCK = ".round.lock";
const RECORD = ".round.json";

// A list: of an object, names such as `constructor` would not come back.
const KeptSchema = v.object({ client: v.string(), digest: v.string(), finite: v.boolean() });
const RecordSchema = v.object({ clients: v.array(KeptSchema) });

/** What is noted of a model that has arrived. */
type Kept = v.InferOutput<typeof KeptSchema>;

export interface RoundFolderParts {
  readonly settings: ResolvedOptions;
  readonly room: SpoolRoom;
  readonly options: CollectOptions;
  /** What an update must have. */
  readonly expected: readonly TensorInfo[] | undefined;
}

/** The artifacts of a round's clients: `<folder>/<round>/<client>.twire`. */
export class RoundFolder {
  /** What an earlier process has collected of the round. */
  readonly found: CollectedModel[] = [];
  /** Clients of which it has a part. */
  readonly begun: string[] = [];
  readonly #scratch = new Scratch();
  readonly #paths = new Set<string>();
  readonly #arrived = new Map<string, Kept>();
  readonly #forms: UpdateForms;
  #keeping: Promise<void> = Promise.resolve();

  private constructor(
    private readonly round: string,
    private readonly path: string,
    private readonly uploads: UploadFolder,
    private readonly lock: Lock,
    private readonly parts: RoundFolderParts,
  ) {
    this.#forms = new UpdateForms(parts.options.form ?? {});
  }

  /** @throws TensorwireError `TARGET_WRITE`, `TARGET_BUSY`; and as what lies there is no part of the round. */
  static async open(folder: string, round: string, parts: RoundFolderParts): Promise<RoundFolder> {
    const uploads = await UploadFolder.open(folder);
    const path = join(uploads.path, ...round.split("/"));
    await mkdir(path, { recursive: true }).catch((cause) => {
      throw targetError(cause, path);
    });
    const lock = await Lock.take(join(path, LOCK), path);
    const opened = new RoundFolder(round, path, uploads, lock, parts);
    try {
      await opened.#recover();
      return opened;
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  async #recover(): Promise<void> {
    const { settings, room } = this.parts;
    const record = await readRecord(join(this.path, RECORD), RecordSchema);
    for (const kept of record?.clients ?? []) {
      const { client } = kept;
      const path = this.#pathOf(client);
      this.checkClient(client);
      const model = await recoveredModel(client, path, kept, settings, (manifest) => {
        this.check(client, manifest);
        this.#forms.take(client, manifest);
      });
      if (!model) continue;
      this.#arrived.set(client, kept);
      this.#paths.add(path);
      room.settle(path, model.bytes);
      this.found.push(model);
    }
    for (const file of await readdir(this.path)) {
      if (file.endsWith(`${ARTIFACT}${PART_SUFFIX}`)) {
        const client = file.slice(0, -`${ARTIFACT}${PART_SUFFIX}`.length);
        this.begun.push(client);
        const path = this.#pathOf(client);
        if (this.#paths.has(path)) continue;
        this.#paths.add(path);
        room.settle(path, (await stat(join(this.path, file))).size);
      }
    }
  }

  /** It counts from when that is durable: what else has such a name was not collected. */
  #keep(client: string, kept: Kept): Promise<void> {
    this.#arrived.set(client, kept);
    this.#keeping = this.#keeping.then(() =>
      writeRecord(join(this.path, RECORD), { clients: [...this.#arrived.values()] }),
    );
    const keeping = this.#keeping;
    this.#keeping = keeping.catch(() => {});
    return keeping;
  }

  /** @throws TensorwireError `SOURCE_MISMATCH`, `BASE_MISMATCH`. */
  check(client: string, manifest: Manifest): void {
    checkUpdate(manifest, this.round, this.parts.expected);
    this.#forms.check(client, manifest);
  }

  /** @throws TensorwireError `FORBIDDEN`. */
  checkClient(client: string): void {
    const fault = client.includes("/") ? "holds a slash" : modelNameFault(client + ARTIFACT);
    if (fault === undefined) return;
    throw new TensorwireError("FORBIDDEN", `${quote(client)} cannot be a client's name here: it ${fault}`);
  }

  /**
   * Where a client's model goes.
   * @param arrived Told when it is there, whole and durable.
   */
  async sink(
    client: string,
    manifest: Manifest,
    arrived: (model: CollectedModel) => void,
  ): Promise<EncodedSink> {
    const { settings, room, options } = this.parts;
    const { backend, registry } = settings;
    const { nonFinite = "refuse", maxClientBytes } = options;
    const path = this.#pathOf(client);
    this.#paths.add(path);
    // Whoever has arrived, and may not again, is not asked here: what lies there otherwise is nobody's.
    const target = { overwrite: true, resume: true, parts: {} };
    const sink = await this.uploads.sink(`${this.round}/${client}${ARTIFACT}`, manifest, target);
    if (!isEncodedSink(sink))
      throw new TensorwireError("INTERNAL", "an artifact's sink takes what is encoded");
    meteredSink(sink, path, room, registry, maxClientBytes);
    const looked = nonFinite === "refuse";
    if (looked) finiteSink(sink, manifest, backend, registry, this.#scratch);
    const { finish } = sink;
    sink.finish = async (totals, digest) => {
      const back = this.#forms.take(client, manifest);
      try {
        await finish.call(sink, totals, digest);
      } catch (error) {
        back();
        throw error;
      }
      const kept = { client, digest: formatDigest(totals.digest), finite: looked && tellsFinite(manifest) };
      await this.#keep(client, kept);
      arrived(await collectedModel(client, path, manifest, kept.digest, settings, kept.finite));
    };
    return sink;
  }

  /** For a client that has arrived, and comes again. */
  again(client: string): EncodedSink {
    return new ArrivedSink(sourceOf(this.#pathOf(client), this.parts.settings), this.#scratch);
  }

  #pathOf(client: string): string {
    return join(this.path, client + ARTIFACT);
  }

  /** Removes what is not complete, when nobody writes it any more. */
  async clear(): Promise<void> {
    for (const file of await readdir(this.path).catch(() => [])) {
      if (file.includes(`${ARTIFACT}${PART_SUFFIX}`)) await unlink(join(this.path, file)).catch(() => {});
    }
  }

  /** What is in it is its owner's from now on. */
  async close(): Promise<void> {
    for (const path of this.#paths) this.parts.room.free(path);
    await this.lock.release();
  }
}
