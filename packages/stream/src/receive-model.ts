import {
  type FloatDType,
  type Integrity,
  isDType,
  isFloatDType,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { Listener } from "./channel/listen.js";
import { checkReopens, type Endpoint, openConnection } from "./channel/open.js";
import { TransferTrace } from "./diagnostics/transfer-trace.js";
import { checkParts, type PartsOptions } from "./journal/expiry.js";
import { checkWord, type ResolvedOptions, resolveOptions, type TransferOptions } from "./options.js";
import type { Connection } from "./session/connection.js";
import { deferred } from "./session/deferred.js";
import { checkExpectedDigest } from "./session/expected-digest.js";
import { Progress } from "./session/progress.js";
import { ModelReceiver } from "./session/receiver.js";
import { Reception } from "./session/reception.js";
import { Retries } from "./session/retry.js";
import type { TransferSummary } from "./session/summary.js";
import { TransferLife } from "./session/transfer.js";
import { ChunksSink, type ReceivedChunk } from "./sink/chunks.js";
import type { Handover } from "./sink/handover.js";
import { openSink } from "./sink/open.js";
import type { Sink } from "./sink/sink.js";
import { type ReceivedTensor, TensorsSink } from "./sink/tensors.js";

/**
 * Where a model comes from: a URL (`ws:`, `wss:`, `http:`, `https:`, `tcp:`, `tls:`, `unix:`; an artifact behind any web server too), the
 * path of an artifact (`*.twire`), an open `WebSocket`, a `Duplex` or pair of streams, a channel, or a listener, whose first peer that announces a model is served.
 */
export type Origin = Endpoint;

/** Options of `receiveModel`. */
export interface ReceiveOptions extends TransferOptions {
  /**
   * Where the model goes: a path (`*.safetensors`; `*.twire` keeps it encoded; a raw file goes to any path), a sink, or a
   * function that says so when it is known what comes.
   * Without it the caller iterates.
   */
  readonly to?: string | Sink | ((manifest: Manifest) => string | Sink | Promise<string | Sink>) | undefined;
  /** Replace a file that exists. Default false. */
  readonly overwrite?: boolean | undefined;
  /**
   * Go on from what an interrupted transfer of the same model left at the path, and leave what this one has if it is
   * interrupted. Default true; false starts clean, and leaves nothing.
   */
  readonly resume?: boolean | undefined;
  /** How long unfinished files stay in the path's folder, and how many bytes of them. Default: 7 days, any number. */
  readonly parts?: PartsOptions | undefined;
  /** Write shards of at most this many bytes, with an index, instead of one file. */
  readonly maxShardBytes?: number | undefined;
  /** Convert every float tensor to this dtype; others keep theirs. Default: each keeps its own. */
  readonly outputDtype?: FloatDType | undefined;
  /** `"sha256"` refuses a model that is not hashed with it (`INTEGRITY_REQUIRED`). Default: whatever the sender chose. */
  readonly integrity?: Integrity | undefined;
  /**
   * The digest that the model must have, 16 hexadecimal digits or `sha256:` and 64: another model is refused
   * (`DIGEST_MISMATCH`) before its file gets its name. `sha256:` demands that integrity too. Tensors and chunks that are
   * iterated over come before it is known.
   */
  readonly expectedDigest?: string | undefined;
  /** When iterating over tensors, lend one reused buffer until the next step. Default false. */
  readonly borrow?: boolean | undefined;
}

/** A model on its way in. */
export interface ReceivedModel extends AsyncIterable<ReceivedTensor> {
  /** Tensor by tensor. Nothing moves past the window until the next one is asked for. */
  [Symbol.asyncIterator](): AsyncIterator<ReceivedTensor, undefined> & AsyncIterable<ReceivedTensor>;
  /** Chunk by chunk, for consumers that want less than a tensor; each is lent until the next step. */
  chunks(): AsyncIterable<ReceivedChunk>;
  /** What is announced, once it is here and valid. */
  readonly manifest: Promise<Manifest>;
  /**
   * Resolves when everything is verified and the sink, or the consumer, has it; rejects with the first cause. Without
   * `to` it waits for the consumer: iterate first.
   */
  readonly done: Promise<TransferSummary>;
}

/**
 * Receives a model, into a path or sink (`to`) or by iteration.
 *
 * @throws TensorwireError through `done`, `manifest` and the iterators: the first cause.
 * @example
 * for await (const { name, dtype, shape, data } of receiveModel("ws://host:9000")) use(name, data);
 * await receiveModel("ws://host:9000", { to: "model.safetensors" }).done;
 */
export function receiveModel(origin: Origin, options: ReceiveOptions = {}): ReceivedModel {
  return new Receiving(origin, options);
}

class Receiving implements ReceivedModel {
  readonly done: Promise<TransferSummary>;
  readonly #trace: TransferTrace;
  readonly #life: TransferLife;
  readonly #manifest = deferred<Manifest>();
  readonly #sink = deferred<Sink>();
  #iterated = false;

  constructor(
    origin: Origin,
    private readonly options: ReceiveOptions,
  ) {
    this.#trace = new TransferTrace("receive", options.logger);
    this.#life = new TransferLife(options.signal);
    this.#life.failed.catch((error) => {
      this.#manifest.reject(error);
      this.#sink.reject(error);
    });
    this.done = this.#run(origin);
    // The same error comes out of the iterator: whoever uses only that has an unhandled rejection otherwise.
    this.done.catch(() => {});
  }

  get manifest(): Promise<Manifest> {
    return this.#manifest.promise;
  }

  [Symbol.asyncIterator](): AsyncIterator<ReceivedTensor, undefined> & AsyncIterable<ReceivedTensor> {
    return this.#iterate(new TensorsSink({ borrow: this.options.borrow }));
  }

  chunks(): AsyncIterable<ReceivedChunk> {
    return this.#iterate(new ChunksSink());
  }

  #iterate<T>(
    sink: Sink & { readonly handover: Handover<T> },
  ): AsyncIterator<T, undefined> & AsyncIterable<T> {
    if (this.options.to !== undefined || this.#iterated) {
      const why = this.#iterated ? "it is iterated already" : "it goes where `to` says";
      throw new TensorwireError("INVALID_ARGUMENT", `this model cannot be iterated: ${why}`);
    }
    this.#iterated = true;
    sink.handover.onReturn = () =>
      this.#life.fail(
        new TensorwireError("SINK_CLOSED", "the consumer stopped before the model was complete"),
      );
    this.#life.failed.catch((error) => sink.handover.fail(error));
    this.#sink.resolve(sink);
    return sink.handover.iterator();
  }

  async #run(origin: Origin): Promise<TransferSummary> {
    const { options } = this;
    const life = this.#life;
    const trace = this.#trace;
    let reception: Reception | undefined;
    let outcome: TransferSummary | TensorwireError | undefined;
    try {
      checkOptions(options);
      const settings = await resolveOptions(options);
      if (settings.retry) checkReopens(origin);
      if (life.error) throw life.error;
      const progress = new Progress(options.onProgress, (error) => life.fail(error));
      reception = new Reception({
        ...settings,
        outputDtype: options.outputDtype,
        integrity: options.integrity,
        expectedDigest: options.expectedDigest,
        sink: (manifest) => this.#open(manifest),
        renewable: typeof options.to === "string",
        progress,
        life,
        trace,
      });
      const retries = new Retries({
        options: settings.retry,
        life,
        trace,
        listening: origin instanceof Listener,
        position: () => progress.acknowledgedBytes,
        retrying: () => progress.retries++,
      });
      const call = { settings, reception, progress, trace, retries };
      outcome = await retries.run((own) => this.#attempt(origin, { ...call, life: own }));
      progress.done();
      return outcome;
    } catch (error) {
      life.fail(error);
      await reception?.abort(life.error!);
      outcome = life.error!;
      throw outcome;
    } finally {
      life.end();
      trace.end(outcome!, reception?.loans ?? 0);
    }
  }

  async #attempt(origin: Origin, call: Call): Promise<TransferSummary> {
    const { settings, retries, life } = call;
    let connection: Connection | undefined;
    let owned = false;
    try {
      const opening = { ...this.options, overwrite: false, signal: life.jobs };
      ({ connection, owned } = await openConnection(origin, "receive", opening, settings));
      if (connection.channel.direction === "both")
        connection.hello.then(
          () => retries.reached(),
          () => {},
        );
      else retries.reached();
      const receiver = new ModelReceiver(connection, {
        ...{ ...settings, ...call, owned },
        expectedDigest: this.options.expectedDigest,
      });
      receiver.manifest.then(this.#manifest.resolve, () => {});
      const summary = await receiver.run();
      retries.complete();
      if (owned) await connection.close();
      return summary;
    } catch (error) {
      life.fail(error);
      if (owned) await connection?.close(life.error);
      throw life.error;
    }
  }

  async #open(manifest: Manifest): Promise<Sink> {
    const { to } = this.options;
    if (to === undefined) return this.#life.race(this.#sink.promise);
    const target = typeof to === "function" ? await this.#asked(to(manifest)) : to;
    return typeof target === "string" ? openSink(target, manifest, this.options) : target;
  }

  /** The caller's code may take its time: a failure does not wait for it, and a sink that it gives later is told. */
  #asked(answer: string | Sink | Promise<string | Sink>): Promise<string | Sink> {
    const life = this.#life;
    const answered = Promise.resolve(answer);
    const late = (target: string | Sink): unknown =>
      life.error && typeof target !== "string" && target.abort(life.error);
    // A caller's sink may break its word; the first cause stays.
    answered.then(late).catch(() => {});
    return life.race(answered);
  }
}

/** What an attempt needs of its call. */
interface Call {
  readonly settings: ResolvedOptions;
  readonly reception: Reception;
  readonly progress: Progress;
  readonly trace: TransferTrace;
  readonly retries: Retries;
  readonly life: TransferLife;
}

function checkOptions({ outputDtype, integrity, expectedDigest, parts }: ReceiveOptions): void {
  checkWord("integrity", integrity, ["xxh64", "sha256"]);
  checkExpectedDigest(expectedDigest);
  if (parts) checkParts(parts);
  if (outputDtype === undefined || (isDType(outputDtype) && isFloatDType(outputDtype))) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `outputDtype can be F16, BF16, F32 or F64, not ${quote(String(outputDtype))}`,
  );
}
