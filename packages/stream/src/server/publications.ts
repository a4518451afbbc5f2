import { quote, TensorwireError } from "@tensorwire/core";
import type { StreamOptions } from "../options.js";
import { sharedArtifactSource } from "../source/artifact.js";
import { SharedArtifacts } from "../source/shared-artifacts.js";
import { isModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { checkModelName } from "./model-path.js";
import type { ServedFile } from "./ranged-answer.js";
import { type PublishedModel, Spool } from "./spool.js";
import { type PublishedSource, type SpoolOptions, SpoolRequest } from "./spool-options.js";
import type { SpoolTerms } from "./spooled-version.js";
import type { Wish } from "./wish.js";

/** How a published model is encoded: for each receiver anew, or once for all of them. */
export type PublishOptions = Pick<
  StreamOptions,
  | "codec"
  | "policy"
  | "minElements"
  | "compress"
  | "nonFinite"
  | "seed"
  | "chunkBytes"
  | "integrity"
  | "version"
>;

/** A model that receivers can have: opened for each of them. */
export interface Publication {
  /** With a `spool` it is encoded once, and again only when `version` is another. */
  readonly options: PublishOptions | SpoolOptions;
  /** Opens the model: for each receiver, or once for an artifact. */
  open(): SourceLike | Promise<SourceLike>;
  /** The artifact that it is served from, where it is one: whoever asks by HTTP alone may have parts of it. */
  file?(): Promise<ServedFile>;
  /** The receiver has had what it wanted, or gives up. */
  leave?(): void;
}

/** Finds a model that was not published by name, when it is asked for. */
export type FindModel = (name: string) => Publication | undefined | Promise<Publication | undefined>;

/** The models that a server has, by name. */
export class Publications {
  readonly #models = new Map<string, Publication>();
  readonly #spools = new Map<string, Spool>();
  /** Those of them whose models are looked for each time that somebody asks. */
  readonly #found = new Set<string>();
  /** Spools are opened one after the other. */
  #opening: Promise<unknown> = Promise.resolve();
  readonly #shared = new SharedArtifacts();
  #closed = false;

  constructor(
    private readonly find: FindModel | undefined,
    private readonly terms: SpoolTerms,
    /** As errors call it. */
    private readonly called: (name: string) => string = quote,
  ) {}

  get names(): string[] {
    const spooled = [...this.#spools.keys()].filter((name) => this.#spooled(name));
    return [...this.#models.keys(), ...spooled].sort();
  }

  /** @throws TensorwireError `INVALID_ARGUMENT`. */
  publish(name: string, source: PublishedSource, options: PublishOptions): void {
    checkModelName(name);
    if (isModelSource(source)) {
      const message = `${quote(name)}: a source is read once: publish a function that makes one for each receiver, or spool it`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    this.#spools.get(name)?.retire();
    this.#models.set(name, { options, open: this.#open(source, options) });
  }

  /** An artifact that goes as it is, is the same one for all of them. */
  #open(source: PublishedSource, { codec, policy }: PublishOptions): Publication["open"] {
    if (typeof source === "function") return source;
    const asItIs = codec === undefined && policy === undefined;
    if (typeof source !== "string" || !source.endsWith(".twire") || !asItIs) return () => source;
    return () => sharedArtifactSource(source, this.terms.settings, this.#shared);
  }

  /** @throws TensorwireError as `Spool.publish`. */
  async spool(name: string, source: PublishedSource, options: SpoolOptions): Promise<PublishedModel> {
    checkModelName(name);
    this.#checkOpen(name);
    const request = new SpoolRequest(name, source, options, this.terms.settings);
    const opening = this.#opening.then(() => {
      // One that nobody would close again.
      this.#checkOpen(name);
      return this.#spoolOf(name, options.spool);
    });
    this.#opening = opening.catch(() => {});
    const model = await (await opening).publish(request);
    this.#models.delete(name);
    this.#found.delete(name);
    return model;
  }

  #checkOpen(name: string): void {
    if (!this.#closed) return;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(name)} cannot be published: the server is closed`);
  }

  async #spoolOf(name: string, folder: string): Promise<Spool> {
    const known = this.#spools.get(name);
    if (known?.spool === folder) return known;
    if (known && !known.idle) {
      const message = `${quote(name)} is spooled in ${quote(known.spool)}: unpublish it first, and let its receivers end`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    this.#spools.delete(name);
    await known?.close();
    const spool = await Spool.open(name, folder, this.terms);
    this.#spools.set(name, spool);
    return spool;
  }

  unpublish(name: string): boolean {
    const spool = this.#spooled(name);
    spool?.retire();
    return this.#models.delete(name) || spool !== undefined;
  }

  #spooled(name: string): Spool | undefined {
    const spool = this.#spools.get(name);
    return spool?.retired || this.#found.has(name) ? undefined : spool;
  }

  /** @throws TensorwireError `NOT_FOUND`. */
  report(name: string): PublishedModel {
    const spool = this.#spooled(name);
    if (spool) return spool.report();
    throw new TensorwireError("NOT_FOUND", `${quote(name)} is not published from a spool`);
  }

  /** @throws TensorwireError `NOT_FOUND`, `CODEC_UNSUPPORTED`. */
  async get(name: string, wish: Wish): Promise<Publication> {
    const spool = this.#spooled(name);
    if (spool && !this.#models.has(name)) return spool.reading(wish);
    const found = this.#models.get(name) ?? (await this.find?.(name));
    if (!found) throw new TensorwireError("NOT_FOUND", `there is no model called ${this.called(name)}`);
    if ("spool" in found.options) return this.#spoolFound(name, found, found.options, wish);
    const { version, codec } = wish;
    if (version === undefined && codec === undefined) return found;
    const message = `${quote(name)} is published without a spool: there are no versions and codecs of it to choose from`;
    throw new TensorwireError("NOT_FOUND", message);
  }

  async #spoolFound(
    name: string,
    found: Publication,
    options: SpoolOptions,
    wish: Wish,
  ): Promise<Publication> {
    await this.spool(name, found.open, options);
    this.#found.add(name);
    return this.#spools.get(name)!.reading(wish);
  }

  async has(name: string): Promise<boolean> {
    return this.#models.has(name) || !!this.#spooled(name) || (await this.find?.(name)) !== undefined;
  }

  /** Nothing is encoded any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const spool of this.#spools.values()) spool.stop();
    await this.#opening;
    await Promise.all([...this.#spools.values()].map((spool) => spool.close()));
  }
}
