import { stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { formatDigest, quote, TensorwireError } from "@tensorwire/core";
import { PART_SUFFIX } from "../journal/leftover.js";
import type { ResolvedOptions, TransferOptions } from "../options.js";
import { artifactSink } from "../sink/artifact.js";
import { type ArtifactSource, artifactSource, sharedArtifactSource } from "../source/artifact.js";
import { joinedToken } from "../source/file-version.js";
import type { SourceLike } from "../source/open.js";
import { SharedArtifacts } from "../source/shared-artifacts.js";
import { meteredSink } from "./metered-sink.js";
import type { Retained } from "./retention.js";
import type { SpoolCodec, SpoolRequest } from "./spool-options.js";
import type { VersionRecord } from "./spool-record.js";
import type { SpoolRoom } from "./spool-room.js";
import { transferModel } from "../transfer-model.js";

/** An artifact of a version: it never changes. */
export interface SpooledArtifact {
  /** Of its tensors. */
  readonly codec: string;
  /** In the spool. */
  readonly path: string;
  /** Of the file. */
  readonly bytes: number;
  /** Of the transfer, as both ends' summaries have it. */
  readonly digest: string;
}

/** What all versions of a server's spools share. */
export interface SpoolTerms {
  readonly settings: ResolvedOptions;
  readonly options: TransferOptions;
  readonly room: SpoolRoom;
}

/** A version of a published model: its artifacts, each made once, on first demand. */
export class SpooledVersion implements Retained {
  /** Receivers that have it at the moment. */
  readers = 0;
  readonly #made = new Map<string, SpooledArtifact>();
  readonly #making = new Map<string, Promise<SpooledArtifact>>();
  readonly #shared = new SharedArtifacts();
  #removed = false;

  constructor(
    readonly record: VersionRecord,
    private readonly folder: string,
    /** None for a version of an earlier process: what is not there of it is not made any more. */
    public request: SpoolRequest | undefined,
    private readonly terms: SpoolTerms,
    private readonly signal: AbortSignal,
  ) {}

  get published(): number {
    return this.record.published;
  }

  get bytes(): number {
    return [...this.#made.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get artifacts(): SpooledArtifact[] {
    return [...this.#made.values()].filter(({ codec }) => this.record.codecs.includes(codec));
  }

  /** What a receiver knows this version by, in that codec. It tells a stranger nothing of it. */
  token(codec: string): string {
    return joinedToken(this.record.id, codec);
  }

  pathOf(codec: string): string {
    return join(this.folder, artifactName(this.record.version, codec));
  }

  /** Files of this version that may be in the folder. */
  get names(): string[] {
    const codecs = new Set([...this.record.codecs, ...(this.request?.base ? [this.request.base.text] : [])]);
    return [...codecs].map((codec) => artifactName(this.record.version, codec));
  }

  /** Whether something of it is being made: what is not complete of it is somebody's, whatever came meanwhile. */
  get making(): boolean {
    return this.#making.size > 0;
  }

  /** Takes what an earlier process has made; what is damaged is removed. */
  async recover(codec: string): Promise<void> {
    const path = this.pathOf(codec);
    if (!(await stat(path).catch(() => undefined))) {
      const part = await stat(`${path}${PART_SUFFIX}`).catch(() => undefined);
      if (part) this.terms.room.settle(path, part.size);
      return;
    }
    const source = this.#source(path);
    try {
      await source.open();
      await this.#add(codec, path, formatDigest(source.totals.digest));
    } catch {
      await unlink(path).catch(() => {});
    } finally {
      await source.close();
    }
  }

  /** A source of an artifact's chunks, for one of its receivers. */
  source({ path }: SpooledArtifact): ArtifactSource {
    return sharedArtifactSource(path, this.terms.settings, this.#shared);
  }

  #source(path: string): ArtifactSource {
    const { backend, registry, limits } = this.terms.settings;
    return artifactSource(path, { backend, registry, limits });
  }

  /**
   * The artifact in that codec. It is encoded for the first who asks; whoever asks meanwhile waits for the same one.
   * @throws TensorwireError `NOT_FOUND`, `TARGET_FULL`, `SOURCE_READ` or what else became of it.
   */
  artifact(codec: string): Promise<SpooledArtifact> {
    const made = this.#made.get(codec);
    if (made) return Promise.resolve(made);
    let making = this.#making.get(codec);
    if (!making) {
      if (this.#removed) return Promise.reject(this.#gone());

      making = this.#make(codec).finally(() => this.#making.delete(codec));
      making.catch(() => {});
      this.#making.set(codec, making);
    }
    return making;
  }

  async #make(text: string): Promise<SpooledArtifact> {
    const { request, record } = this;
    const codec = [...(request?.codecs ?? []), request?.base].find((each) => each?.text === text);
    if (!request || !codec) {
      const message = `version ${record.version} was never encoded as ${quote(text)}, and its source is gone`;
      throw new TensorwireError("NOT_FOUND", message);
    }
    const { base } = request;
    const fromBase =
      base && base.text !== text ? this.#source((await this.artifact(base.text)).path) : undefined;
    const path = this.pathOf(text);
    const digest = await this.#encode(codec, request, fromBase, path);
    return this.#add(text, path, digest);
  }

  async #encode(
    { text, encoding }: SpoolCodec,
    request: SpoolRequest,
    fromBase: ArtifactSource | undefined,
    path: string,
  ): Promise<string> {
    const { settings, options, room } = this.terms;
    const { registry } = settings;
    const { minElements, compress, nonFinite, seed, chunkBytes, integrity } = request.options;
    const source: SourceLike = fromBase ?? (await request.open(this.record.source));
    const sink = meteredSink(artifactSink(path, { registry }), path, room, registry);
    const { windowBytes, limits, backend, budget, logger } = options;
    const summary = await transferModel(source, sink, {
      ...{ windowBytes, limits, backend, registry, budget, logger },
      ...{ minElements, compress, nonFinite, seed, chunkBytes, integrity, ...encoding },
      // What an interrupted encoding has written is gone on with where the source is known to be the same.
      version: fromBase ? this.token(text) : this.record.source,
      signal: this.signal,
    });
    return summary.digest;
  }

  async #add(codec: string, path: string, digest: string): Promise<SpooledArtifact> {
    const { size: bytes } = await stat(path);
    const artifact = { codec, path, bytes, digest };
    this.terms.room.settle(path, bytes);
    this.#made.set(codec, artifact);
    return artifact;
  }

  /** Nothing of it is being made any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#making.values());
  }

  /** Removes its files; those that are not complete are nobody's then. */
  async remove(): Promise<void> {
    this.#removed = true;
    await this.settled();
    for (const { path } of this.#made.values()) await unlink(path).catch(() => {});
    for (const name of this.names) this.terms.room.free(join(this.folder, name));
    this.#made.clear();
  }

  #gone(): TensorwireError {
    const message = `version ${this.record.version} is not kept any more: another one has taken its place, or it was unpublished`;
    return new TensorwireError("NOT_FOUND", message);
  }
}

/** What stands in a file's name for a codec: parameters have signs that some systems have no file names for. */
function artifactName(version: number, codec: string): string {
  return `${version}-${codec.replace(/[^\w.=,+-]/g, "_")}.twire`;
}
