import { type Manifest, TensorwireError } from "@tensorwire/core";
import { Listener } from "./channel/listen.js";
import type { OpenOptions } from "./channel/connect.js";
import { dialWhenListening } from "./channel/dial-wait.js";
import { checkReopens, type Endpoint, webUrl } from "./channel/endpoint.js";
import { openConnection } from "./channel/open.js";
import { TransferTrace } from "./diagnostics/transfer-trace.js";
import { heldVersion } from "./journal/held-version.js";
import { type ResolvedOptions, resolveOptions } from "./options.js";
import { checkDevice, checkReceiveOptions, DEVICE, type ReceiveOptions } from "./receive-options.js";
import { openWebOrigin, type WebOrigin } from "./remote/web-origin.js";
import type { Sending } from "./sending.js";
import type { Connection } from "./session/connection.js";
import { deferred } from "./session/deferred.js";
import { Progress } from "./session/progress.js";
import { ModelReceiver } from "./session/receiver.js";
import { Reception } from "./session/reception.js";
import { Retries } from "./session/retry.js";
import type { TransferSummary } from "./session/summary.js";
import { TransferLife } from "./session/transfer.js";
import type { SourceLike } from "./source/open.js";
import { ChunksSink, type ReceivedChunk } from "./sink/chunks.js";
import type { Handover } from "./sink/handover.js";
import { openSink } from "./sink/open.js";
import type { Sink } from "./sink/sink.js";
import { deviceMemory } from "./sink/device-memory.js";
import { hostMemory, type ReceivedTensor, TensorsSink } from "./sink/tensors.js";

/** A model on its way in. */
export interface ReceivedModel<T = ReceivedTensor> extends AsyncIterable<T> {
  /** Tensor by tensor. Nothing moves past the window until the next one is asked for. */
  [Symbol.asyncIterator](): AsyncIterator<T, undefined> & AsyncIterable<T>;
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

/** One call: attempts to bring a model to a sink, or to whoever iterates over it. */
export class Receiving implements ReceivedModel {
  readonly done: Promise<TransferSummary>;
  readonly #trace: TransferTrace;
  readonly #life: TransferLife;
  readonly #manifest = deferred<Manifest>();
  readonly #sink = deferred<Sink>();
  #iterated = false;
  /** What failed first, at either end. */
  #cause: TensorwireError | undefined;

  /**
   * @param sending The other end, where it is in this process: both fail together, and with what failed first.
   * @param several Makes the source that is the model over several channels of a web server, for each attempt one.
   */
  constructor(
    origin: Endpoint,
    private readonly options: ReceiveOptions,
    private readonly sending?: Sending | undefined,
    private readonly several?: (() => SourceLike) | undefined,
  ) {
    this.#trace = new TransferTrace("receive", options.logger);
    this.#life = new TransferLife(options.signal);
    sending?.failed.catch((error) => {
      this.#cause ??= error;
    });
    this.#life.failed.catch((error) => {
      this.#cause ??= error;
      sending?.fail(error);
      this.#manifest.reject(this.#cause);
      this.#sink.reject(this.#cause);
    });
    this.done = this.#run(origin);
    // The same error comes out of the iterator: whoever uses only that has an unhandled rejection otherwise.
    this.done.catch(() => {});
  }

  get manifest(): Promise<Manifest> {
    return this.#manifest.promise;
  }

  [Symbol.asyncIterator](): AsyncIterator<ReceivedTensor, undefined> & AsyncIterable<ReceivedTensor> {
    const { to, device, borrow } = this.options;
    if (to !== DEVICE) return this.#iterate(new TensorsSink(hostMemory(borrow)));
    checkDevice(device);
    // As the overload of receiveModel says.
    return this.#iterate(new TensorsSink(deviceMemory(device))) as unknown as AsyncIterator<
      ReceivedTensor,
      undefined
    > &
      AsyncIterable<ReceivedTensor>;
  }

  chunks(): AsyncIterable<ReceivedChunk> {
    if (this.options.to !== DEVICE) return this.#iterate(new ChunksSink());
    const message = "a model that goes to a device is iterated over tensor by tensor";
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }

  /** The path that it goes to, where that is known before anything has come. */
  get #path(): string | undefined {
    const { to } = this.options;
    return typeof to === "string" && to !== DEVICE ? to : undefined;
  }

  #iterate<T>(
    sink: Sink & { readonly handover: Handover<T> },
  ): AsyncIterator<T, undefined> & AsyncIterable<T> {
    const { to } = this.options;
    if ((to !== undefined && to !== DEVICE) || this.#iterated) {
      const why = this.#iterated ? "it is iterated already" : "it goes where `to` says";
      throw new TensorwireError("INVALID_ARGUMENT", `this model cannot be iterated: ${why}`);
    }
    this.#iterated = true;
    sink.handover.onReturn = () =>
      this.#life.fail(
        new TensorwireError("SINK_CLOSED", "the consumer stopped before the model was complete"),
      );
    this.#life.failed.catch((error) => sink.handover.fail(this.#cause ?? error));
    this.#sink.resolve(sink);
    return sink.handover.iterator();
  }

  async #run(origin: Endpoint): Promise<TransferSummary> {
    const { options, sending } = this;
    const life = this.#life;
    const sent = sending?.run();
    // It tells this end, but for what fails before there is a connection.
    sent?.catch((error) => life.fail(error));
    const trace = this.#trace;
    let reception: Reception | undefined;
    let outcome: TransferSummary | TensorwireError | undefined;
    try {
      checkReceiveOptions(options);
      const settings = await resolveOptions(options);
      if (settings.retry) checkReopens(origin);
      if (life.error) throw life.error;
      const progress = new Progress(options.onProgress, (error) => life.fail(error));
      trace.position = progress;
      reception = new Reception({
        ...settings,
        outputDtype: options.outputDtype,
        tensors: options.tensors,
        integrity: options.integrity,
        expectedDigest: options.expectedDigest,
        sink: (manifest) => this.#open(manifest, settings),
        renewable: this.#path !== undefined,
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
      const received = await retries.run((own) => this.#attempt(origin, { ...call, life: own }));
      outcome = await together(received, sent);
      progress.done();
      return outcome;
    } catch (error) {
      life.fail(error);
      await reception?.abort(life.error!);
      outcome = (await this.#causeOf(sent)) ?? life.error!;
      throw outcome;
    } finally {
      life.end();
      trace.end(outcome!, reception?.loans ?? 0);
    }
  }

  /** What the other end failed with, in its words, where it was the first. */
  async #causeOf(sent: Promise<unknown> | undefined): Promise<TensorwireError | undefined> {
    const error: TensorwireError | undefined = await sent?.then(
      () => undefined,
      (cause) => cause,
    );
    return this.#cause === this.#life.error ? undefined : error;
  }

  async #attempt(origin: Endpoint, call: Call): Promise<TransferSummary> {
    const { settings, retries, life } = call;
    let connection: Connection | undefined;
    let owned = false;
    let sent: Promise<unknown> | undefined;
    try {
      const holds = call.reception.version ?? (await this.#left());
      const from = await this.#from(origin, settings, life);
      const { sending = this.sending } = from;
      if (from.sending) sent = beside(from.sending, life);
      const opening = { ...this.options, ...from.opening, signal: life.jobs, holds };
      ({ connection, owned } = await openConnection(from.endpoint, "receive", opening, settings));
      if (connection.channel.direction === "both")
        connection.hello.then(
          () => retries.reached(),
          () => {},
        );
      else retries.reached();
      const receiver = new ModelReceiver(connection, {
        ...{ ...settings, ...call, owned, near: sending !== undefined },
        budget: sending?.common ?? settings.budget,
        expectedDigest: this.options.expectedDigest,
      });
      receiver.manifest.then(this.#manifest.resolve, () => {});
      const summary = await receiver.run();
      retries.complete();
      if (owned) await connection.close();
      await sent;
      return summary;
    } catch (error) {
      life.fail(error);
      if (owned) await connection?.close(life.error);
      await sent?.catch(() => {});
      throw life.error;
    }
  }

  /** What is at the other end of an attempt: of a URL whose server has a file, a sender in this process that fetches it. */
  async #from(origin: Endpoint, settings: ResolvedOptions, life: TransferLife): Promise<From> {
    const url = webUrl(origin, this.options.dial);
    if (url === undefined) return { endpoint: origin };
    const { end, sending } = await dialWhenListening(this.options.dial?.waitMs, life.jobs, () =>
      openWebOrigin(url, this.options, settings, life.jobs, this.several?.()),
    );
    // It is dialled by now.
    return { endpoint: end, sending, opening: { dial: undefined } };
  }

  /** The version that an earlier call has left a part of. */
  async #left(): Promise<string | undefined> {
    const { resume = true } = this.options;
    return this.#path !== undefined && resume ? heldVersion(this.#path) : undefined;
  }

  async #open(
    manifest: Manifest,
    { registry, backend }: Pick<ResolvedOptions, "registry" | "backend">,
  ): Promise<Sink> {
    const { to } = this.options;
    if (to === undefined || to === DEVICE) return this.#life.race(this.#sink.promise);
    const target = typeof to === "function" ? await this.#asked(to(manifest)) : to;
    return typeof target === "string"
      ? openSink(target, manifest, { ...this.options, registry, backend })
      : target;
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

interface From extends Pick<WebOrigin, "sending"> {
  readonly endpoint: Endpoint;
  readonly opening?: OpenOptions;
}

/** Lets the other end of one attempt run: both fail together, and with what failed first. */
function beside(sending: Sending, life: TransferLife): Promise<unknown> {
  life.failed.catch((error) => sending.fail(error));
  sending.failed.catch((error) => life.fail(error));
  const sent = sending.run();
  sent.catch(() => {});
  return sent;
}

/** What the two ends have counted: only the one that encodes knows of chunks that their codec declined. */
async function together(
  received: TransferSummary,
  sent: Promise<TransferSummary> | undefined,
): Promise<TransferSummary> {
  if (!sent) return received;
  const { declinedChunks, backends: encoded } = await sent;
  const backends = { ...received.backends };
  for (const [name, bytes] of Object.entries(encoded)) backends[name] = (backends[name] ?? 0) + bytes;
  return { ...received, declinedChunks, backends };
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
