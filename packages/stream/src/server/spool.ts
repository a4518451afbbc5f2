import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { lstat, mkdir, readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { Lock } from "../sink/lock.js";
import { targetError } from "../sink/target-error.js";
import type { Publication } from "./publications.js";
import { outlived, type Retention } from "./retention.js";
import type { SpoolRequest } from "./spool-options.js";
import { readSpool, SPOOL_RECORD, writeSpool } from "./spool-record.js";
import { type SpooledArtifact, SpooledVersion, type SpoolTerms } from "./spooled-version.js";
import { codecFor, type Wish } from "./wish.js";

/** What is known of a version of a published model. */
export interface PublishedVersion {
  /** Counts from 1. */
  readonly version: number;
  /** When it was published. */
  readonly published: Date;
  /** Those that may be had of it. */
  readonly codecs: readonly string[];
  /** Those of them that are made. */
  readonly artifacts: readonly SpooledArtifact[];
  /** Bytes of its artifacts. */
  readonly bytes: number;
  /** Receivers that are having it. */
  readonly readers: number;
}

/** What is known of a published model: its newest version, and the others that are still there. */
export interface PublishedModel extends PublishedVersion {
  /** What receivers ask for. */
  readonly name: string;
  /** Older versions that are kept. */
  readonly earlier: readonly PublishedVersion[];
}

/** Files of ours. What is called otherwise in the folder is the artifacts of a model whose name goes on there, or not ours. */
const OURS = /^\d+-.*\.twire(?:\.part(?:\..*)?)?$/;
const LOCK = ".publication.lock";

/** So long at most until retention is looked at again: a timer takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The versions of one published model, in a folder of its own. */
export class Spool {
  /** The newest first. */
  #versions: SpooledVersion[] = [];
  #next = 1;
  /** What the disk has of all that. */
  #saved: string | undefined;
  #retention: Retention = {};
  #working: Promise<unknown> = Promise.resolve();
  /** It is published no more, and goes when nobody reads it. */
  #retired = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #stop = new AbortController();

  private constructor(
    readonly name: string,
    /** That was given. */
    readonly spool: string,
    private readonly folder: string,
    private readonly lock: Lock,
    private readonly terms: SpoolTerms,
  ) {
    // One signal for all that is encoded: each listens to it.
    setMaxListeners(0, this.#stop.signal);
  }

  /** @throws TensorwireError `TARGET_WRITE`, `TARGET_BUSY`, `TARGET_EXISTS`. */
  static async open(name: string, spool: string, terms: SpoolTerms): Promise<Spool> {
    const folder = join(spool, ...name.split("/"));
    try {
      // The spool itself is the caller's: a name that was mistyped is no new folder.
      await lstat(spool);
      await mkdir(folder, { recursive: true });
    } catch (cause) {
      throw targetError(cause, spool);
    }
    const lock = await Lock.take(join(folder, LOCK), folder);
    const opened = new Spool(name, spool, folder, lock, terms);
    try {
      await opened.#recover();
      return opened;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async #recover(): Promise<void> {
    const { next, versions } = await readSpool(this.folder, this.name);
    this.#next = next;
    for (const record of versions) {
      const version = new SpooledVersion(record, this.folder, undefined, this.terms, this.#stop.signal);
      for (const codec of record.codecs) await version.recover(codec);
      this.#versions.push(version);
    }
  }

  /** @throws TensorwireError as the source's `open`; `TARGET_WRITE`, `TARGET_FULL`. */
  async publish(request: SpoolRequest): Promise<PublishedModel> {
    const published = this.#working.then(() => this.#publish(request));
    this.#working = published.catch(() => {});
    const version = await published;
    // Whoever asks for what there is does not wait for that.
    if (request.options.encode === "now") for (const { text } of request.codecs) await version.artifact(text);
    return this.report();
  }

  async #publish(request: SpoolRequest): Promise<SpooledVersion> {
    const token = await request.token();
    const newest = this.#versions[0];
    const same = newest && token !== undefined && newest.record.source === token && !this.#retired;
    const version =
      same && newest.record.encoding === request.encoding
        ? await this.#again(newest, request)
        : this.#begin(request, token);
    this.#retired = false;
    this.#retention = request.retention;
    await this.#tidy();
    return version;
  }

  /** What was published before, in this process or an earlier one: its artifacts are those that there are. */
  async #again(version: SpooledVersion, request: SpoolRequest): Promise<SpooledVersion> {
    version.request = request;
    const codecs = request.codecs.map(({ text }) => text);
    version.record.codecs = [...new Set([...codecs, ...version.record.codecs])];
    if (request.base && version.artifacts.every(({ codec }) => codec !== request.base!.text)) {
      await version.recover(request.base.text);
    }
    return version;
  }

  #begin(request: SpoolRequest, source: string | undefined): SpooledVersion {
    const { encoding, codecs } = request;
    const record = {
      ...{ version: this.#next++, id: randomBytes(16).toString("hex"), encoding },
      ...{ published: Date.now(), codecs: codecs.map(({ text }) => text) },
      ...(source !== undefined && { source }),
    };
    const version = new SpooledVersion(record, this.folder, request, this.terms, this.#stop.signal);
    // What is not made of them could be made of what is the new one's alone.
    for (const earlier of this.#versions) if (earlier.request?.shares(request)) earlier.request = undefined;
    this.#versions.unshift(version);
    return version;
  }

  /** Lets go of what retention does not keep, and of what belongs to no version. */
  async #tidy(): Promise<void> {
    clearTimeout(this.#timer);
    const now = Date.now();
    const { gone, next } = this.#retired
      ? { gone: this.#versions.filter(({ readers }) => readers === 0), next: Number.POSITIVE_INFINITY }
      : outlived(this.#versions, this.#retention, now);
    this.#versions = this.#versions.filter((version) => !gone.includes(version));
    await this.#save();
    for (const version of gone) await version.remove();
    await this.#removeStrays();
    if (next < Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(() => this.#look(), Math.min(next - now + 1, MAX_TIMER_MS)).unref();
    }
  }

  async #save(): Promise<void> {
    const versions = this.#versions.map(({ record }) => record);
    const record = { name: this.name, next: this.#next, versions };
    const text = JSON.stringify(record);
    // Of a served folder it is looked at for every request, and is rarely another.
    if (text === this.#saved) return;
    await writeSpool(this.folder, record);
    this.#saved = text;
  }

  async #removeStrays(): Promise<void> {
    const [newest] = this.#versions;
    const ours = new Set(this.#versions.flatMap(({ names }) => names));
    const going = this.#versions.filter((version) => version === newest || version.making);
    const parts = going.flatMap(({ names }) => names);
    for (const file of await readdir(this.folder)) {
      // Of the newest an unfinished one is gone on with, and of what is being made; the others are nobody's.
      const known = ours.has(file) || parts.some((name) => file.startsWith(`${name}.part`));
      if (!OURS.test(file) || known) continue;
      const path = join(this.folder, file);
      if ((await lstat(path)).isFile()) await unlink(path).catch(() => {});
    }
  }

  /** Retention, when there is time. */
  #look(): void {
    if (this.#stop.signal.aborted) return;
    this.#working = this.#working.then(() => this.#tidy()).catch(() => {});
  }

  /**
   * A version for a receiver, which has it until it leaves.
   * @throws TensorwireError `NOT_FOUND`, `CODEC_UNSUPPORTED`.
   */
  reading(wish: Wish): Publication {
    const { version, codec } = this.#choose(wish);
    const artifact = (): Promise<SpooledArtifact> => version.artifact(codec);
    const token = version.token(codec);
    let left = false;
    version.readers++;
    return {
      options: { version: token },
      open: async () => version.source(await artifact()),
      file: async () => ({ path: (await artifact()).path, tag: token }),
      leave: () => {
        if (left) return;
        left = true;
        if (--version.readers === 0) this.#look();
      },
    };
  }

  #choose(wish: Wish): { readonly version: SpooledVersion; readonly codec: string } {
    const { held } = wish;
    if (held !== undefined && wish.version === undefined) {
      for (const version of this.#versions) {
        const codec = version.record.codecs.find((each) => version.token(each) === held);
        if (codec !== undefined && (wish.codec === undefined || wish.codec === codec))
          return { version, codec };
      }
    }
    const version =
      wish.version === undefined
        ? this.#versions[0]
        : this.#versions.find(({ record }) => record.version === wish.version);
    if (this.#retired || !version) {
      const known = this.#versions.map(({ record }) => record.version).join(", ");
      const which = wish.version === undefined ? "" : `version ${wish.version} of `;
      const there = wish.version === undefined || this.#retired ? "" : `: there is ${known}`;
      throw new TensorwireError("NOT_FOUND", `there is no ${which}${quote(this.name)}${there}`);
    }
    return { version, codec: codecFor(this.name, version.record.codecs, wish) };
  }

  report(): PublishedModel {
    const [newest, ...earlier] = this.#versions.map(reportOf);
    return { name: this.name, ...newest!, earlier };
  }

  /** It is published no more: whoever is reading it goes on, and its files go with the last of them. */
  retire(): void {
    this.#retired = true;
    this.#look();
  }

  /** There is nothing of it to be had, and will not be. */
  get retired(): boolean {
    return this.#retired || this.#versions.length === 0;
  }

  /** Nobody has anything of it, or could. */
  get idle(): boolean {
    return (
      (this.#retired || this.#versions.length === 0) && this.#versions.every(({ readers }) => readers === 0)
    );
  }

  /** Encodes nothing any more: whoever waits for it hears of that. */
  stop(): void {
    this.#stop.abort(new TensorwireError("SERVER_BUSY", "the server was closed: try again later"));
  }

  /** Makes nothing any more. What is made, or half made, stays for a server that publishes it again. */
  async close(): Promise<void> {
    this.stop();
    await this.#working;
    clearTimeout(this.#timer);
    await Promise.all(this.#versions.map((version) => version.settled()));
    await this.lock.release();
    // One that never had anything, or has nothing any more.
    if (this.#retired && this.#versions.length === 0) await this.#removeFolder();
  }

  async #removeFolder(): Promise<void> {
    await unlink(join(this.folder, SPOOL_RECORD)).catch(() => {});
    await rmdir(this.folder).catch(() => {});
  }
}

function reportOf(version: SpooledVersion): PublishedVersion {
  const { record, artifacts, bytes, readers } = version;
  const { version: number, published, codecs } = record;
  return { version: number, published: new Date(published), codecs: [...codecs], artifacts, bytes, readers };
}
