import {
  type BufferPool,
  type Chunk,
  type ChunkRange,
  DEFAULT_WINDOW_BYTES,
  type Loan,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { processBudget } from "../budget/process-budget.js";
import { shownUrl } from "../channel/address.js";
import { filePath } from "../channel/endpoint.js";
import type { TransferOptions } from "../options.js";
import type { ReceiveOptions } from "../receive-options.js";
import { isInterruption } from "../session/interruption.js";
import type { SinkModel } from "../sink/sink.js";
import type { EncodedRecord, EncodedSource, SourceMemory } from "../source/source.js";
import { checkConcurrency, DEFAULT_CONCURRENCY } from "./concurrency.js";
import { Pull } from "./pull.js";
import { type Shares, shareOut } from "./shares.js";

/** Options of `remoteSource`: those of receiving, as far as they are about the server and the way to it. */
export interface RemoteSourceOptions
  extends Omit<TransferOptions, "signal" | "onProgress">,
    Pick<ReceiveOptions, "integrity" | "tensors"> {
  /** Connections at once, at most: as many as have a chunk each in the window. Default 4. */
  readonly concurrency?: number | undefined;
}

/**
 * A model that a server has, as a source: its chunks are pulled as they are encoded, over several connections at once, and are
 * read in the plan's order. What is on its way, over all of them together, is one window. To relay a model is to send this.
 *
 * @throws TensorwireError through `open` and the reads, the cause of whichever connection failed first; `SOURCE_CHANGED` where
 * they announce different models, or states of one.
 * @example
 * await transferModel(remoteSource("wss://hub/llama", { concurrency: 4 }), "llama.safetensors");
 * await streamModel(remoteSource("wss://hub/llama"), "wss://edge/llama");
 */
export function remoteSource(url: string | URL, options: RemoteSourceOptions = {}): EncodedSource {
  return new RemoteSource(url, options);
}

class RemoteSource implements EncodedSource {
  readonly name: string;
  readonly #concurrency: number;
  /** All that are to be ended. */
  #dialled: Pull[] = [];
  /** Those that have a share. */
  #pulls: readonly Pull[] = [];
  #model: SinkModel | undefined;
  #windowBytes = 0;
  /** Once it is known what is wanted. */
  #shares: Promise<Shares> | undefined;
  #closed = false;

  constructor(
    private readonly url: string | URL,
    private readonly options: RemoteSourceOptions,
  ) {
    this.name = typeof url === "string" || url instanceof URL ? shownUrl(String(url)) : "a peer";
    this.#concurrency = options.concurrency ?? DEFAULT_CONCURRENCY;
  }

  get version(): string | undefined {
    return this.#model?.version;
  }

  async open(): Promise<Manifest> {
    checkDials(this.url);
    checkConcurrency(this.#concurrency);
    const first = this.#dial();
    const model = await first.announced;
    this.#pulls = [first];
    this.#model = model;
    this.#windowBytes = this.#affordable(model);
    return model.manifest;
  }

  /** One connection more. Until it is told what to bring it waits. */
  #dial({ spare = false } = {}): Pull {
    const { concurrency: _, maxBytesPerSecond: rate, ...options } = this.options;
    const maxBytesPerSecond = rate === undefined ? undefined : Math.max(1, rate / this.#concurrency);
    const pull = new Pull(this.url, { ...options, maxBytesPerSecond, spare });
    this.#dialled.push(pull);
    return pull;
  }

  /** Of the window as much as a quarter of the budget takes, and a chunk at least. */
  #affordable({ plan }: SinkModel): number {
    const { windowBytes, budget = processBudget("send") } = this.options;
    const most = windowBytes ?? DEFAULT_WINDOW_BYTES;
    return Math.max(plan.maxChunkBytes, Math.min(most, Math.floor(budget.bytes / 4)));
  }

  /** Connections that have a chunk each in the window. Without a version nothing vouches that they would show the same state. */
  get #most(): number {
    const { plan, version } = this.#opened;
    if (version === undefined) return 1;
    return Math.min(this.#concurrency, Math.floor(this.#windowBytes / Math.max(1, plan.maxChunkBytes)));
  }

  get #opened(): SinkModel {
    if (this.#model) return this.#model;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} is not open`);
  }

  /** The window; and for each connection a chunk that is unpacked to be verified, and a slab that is partly used. */
  memory(): SourceMemory {
    const bytes = this.#windowBytes + 2 * this.#most * this.#opened.plan.maxChunkBytes;
    return { slabs: 0, bytes, lends: true };
  }

  want(runs: readonly ChunkRange[]): void {
    this.#shares = this.#shares ? this.#anew(runs) : this.#begin(runs);
    // Whoever reads hears of it.
    this.#shares.catch(() => {});
  }

  /** Whoever it goes to was interrupted, and wants other chunks now: what is on its way is of no use. */
  async #anew(runs: readonly ChunkRange[]): Promise<Shares> {
    await this.#stop();
    if (this.#closed) throw new TensorwireError("ABORTED", `${quote(this.name)} is closed`);
    const first = this.#dial();
    this.#check(await first.announced);
    this.#pulls = [first];
    return this.#begin(runs);
  }

  async #begin(runs: readonly ChunkRange[]): Promise<Shares> {
    const { plan } = this.#opened;
    const windowBytes = this.#windowBytes;
    const useful = shareOut(plan, runs, this.#most, windowBytes).ranges.length;
    await this.#join(useful);
    const count = Math.max(1, Math.min(useful, this.#pulls.length));
    const shares = shareOut(plan, runs, count, windowBytes);
    const whole = count === 1 && runs.length === 1 && runs[0]!.count === plan.chunks;
    this.#pulls.forEach((pull, i) => {
      // All of it is not asked for as a part: also who cannot be asked for anything brings that.
      const ranges = whole ? undefined : (shares.ranges[i] ?? []);
      pull.ask({ ranges, windowBytes: Math.floor(windowBytes / count) });
    });
    return shares;
  }

  /** So many connections in all, or as many as the server takes. */
  async #join(count: number): Promise<void> {
    const more = Array.from({ length: count - this.#pulls.length }, () => this.#dial({ spare: true }));
    const joined = await Promise.all(more.map((pull) => this.#joined(pull)));
    this.#pulls = [...this.#pulls, ...joined.filter((pull) => pull !== undefined)];
  }

  async #joined(pull: Pull): Promise<Pull | undefined> {
    try {
      this.#check(await pull.announced);
      return pull;
    } catch (error) {
      // A server that is busy, a listener that is there for one peer: those that are there bring it as well.
      const spared = isInterruption(error as TensorwireError) && !pull.stopped;
      if (spared) return undefined;
      throw error;
    }
  }

  #check({ bytes, version }: SinkModel): void {
    const first = this.#opened;
    const same = Buffer.compare(bytes, first.bytes) === 0;
    if (same && version === first.version) return;
    const what = same ? "states of the model" : "models";
    const message = `two connections to ${quote(this.name)} were shown different ${what}: it changed in between; begin anew`;
    throw new TensorwireError("SOURCE_CHANGED", message);
  }

  async readEncoded(chunk: Chunk, _pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    const shares = await this.#shares;
    if (!shares)
      throw new TensorwireError("INTERNAL", `${quote(this.name)} is read before anything is wanted`);
    const pulled = await this.#pulls[shares.of(chunk.ordinal)]!.take();
    if (pulled.chunk.ordinal !== chunk.ordinal) {
      pulled.release();
      const message = `chunk ${chunk.ordinal} is read where ${pulled.chunk.ordinal} was said to come next`;
      throw new TensorwireError("INTERNAL", message);
    }
    const { codec, payloadBytes, packedBytes, packing, hash } = pulled.record;
    const record = { codec, payloadBytes, packedBytes, packing, hash, sha256: pulled.sha256 };
    return { record, loan: { bytes: pulled.payload, release: pulled.release } };
  }

  /** Every part is whole, as its END says. */
  async verify(): Promise<void> {
    await this.#shares;
    await Promise.all(this.#pulls.map(({ done }) => done));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#stop();
    await this.#shares?.catch(() => {});
  }

  /** Those too that nobody has answered yet: to wait for an answer first could be for ever. */
  async #stop(): Promise<void> {
    const dialled = this.#dialled;
    this.#dialled = [];
    await Promise.all(dialled.map((pull) => pull.stop()));
  }
}

/** @throws TensorwireError `INVALID_ARGUMENT` for what cannot be dialled more than once. */
function checkDials(url: unknown): void {
  const text = typeof url === "string" || url instanceof URL;
  if (text && filePath(url) === undefined) return;
  const message =
    "several connections need a URL of a server: a file, a listener, or a channel that is open already, is one";
  throw new TensorwireError("INVALID_ARGUMENT", message);
}
