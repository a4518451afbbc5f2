import { mkdir, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import {
  formatDigest,
  type Manifest,
  modelNameFault,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";
import { PART_SUFFIX } from "../journal/leftover.js";
import { Lock } from "../sink/lock.js";
import { type EncodedSink, isEncodedSink } from "../sink/sink.js";
import { targetError } from "../sink/target-error.js";
import { ArrivedSink } from "./arrived-sink.js";
import type { CollectOptions } from "./collect-options.js";
import { type CollectedModel, collectedModel, recoveredModel, sourceOf } from "./collected-model.js";
import { checkUpdate } from "./expected-model.js";
import { finiteSink, looks, tellsFinite } from "./finite-sink.js";
import { meteredSink } from "./metered-sink.js";
import { Scratch } from "./scratch.js";
import type { SpoolRoom } from "./spool-room.js";
import { UploadFolder } from "./upload-folder.js";

const ARTIFACT = ".twire";
const LOCK = ".round.lock";

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

  private constructor(
    private readonly round: string,
    private readonly path: string,
    private readonly uploads: UploadFolder,
    private readonly lock: Lock,
    private readonly parts: RoundFolderParts,
  ) {}

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
    for (const file of (await readdir(this.path)).sort()) {
      if (file.endsWith(`${ARTIFACT}${PART_SUFFIX}`)) {
        this.begun.push(file.slice(0, -`${ARTIFACT}${PART_SUFFIX}`.length));
      }
      if (!file.endsWith(ARTIFACT)) continue;
      const path = join(this.path, file);
      const client = file.slice(0, -ARTIFACT.length);
      const model = await recoveredModel(client, path, settings, (manifest) => this.check(manifest));
      this.#paths.add(path);
      room.settle(path, model.bytes);
      this.found.push(model);
    }
  }

  /** @throws TensorwireError `SOURCE_MISMATCH`. */
  check(manifest: Manifest): void {
    checkUpdate(manifest, this.round, this.parts.expected);
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
    const { duplicate, nonFinite = "refuse", maxClientBytes } = options;
    const path = this.#pathOf(client);
    this.#paths.add(path);
    const target = { overwrite: duplicate === "replace", resume: true, parts: {} };
    const sink = await this.uploads.sink(`${this.round}/${client}${ARTIFACT}`, manifest, target);
    if (!isEncodedSink(sink))
      throw new TensorwireError("INTERNAL", "an artifact's sink takes what is encoded");
    meteredSink(sink, path, room, registry, maxClientBytes);
    const looked = nonFinite === "refuse" && looks(backend);
    if (looked) finiteSink(sink, manifest, backend, registry, this.#scratch);
    const { finish } = sink;
    sink.finish = async (totals) => {
      await finish.call(sink, totals);
      const digest = formatDigest(totals.digest);
      arrived(
        await collectedModel(client, path, manifest, digest, settings, looked && tellsFinite(manifest)),
      );
    };
    return sink;
  }

  /** For a client that has arrived, and comes again. */
  again(client: string): EncodedSink {
    return new ArrivedSink(sourceOf(this.#pathOf(client), this.parts.settings));
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
