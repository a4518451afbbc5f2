import {
  type Hello,
  type Manifest,
  type ModelInfo,
  type Policy,
  planManifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { Listener } from "./channel/listen.js";
import { ChannelEnd, checkReopens, type Endpoint } from "./channel/endpoint.js";
import { openConnection } from "./channel/open.js";
import { checkStreamOptions, type ResolvedOptions, resolveOptions, type StreamOptions } from "./options.js";
import type { CommonBudget } from "./budget/common-budget.js";
import { TransferTrace } from "./diagnostics/transfer-trace.js";
import { askedOf, checkAskedAlike } from "./compute/asked.js";
import { checkTerms, outgoingManifest } from "./outgoing-manifest.js";
import { ErrorFeedback } from "./residuals/error-feedback.js";
import { ResidualFile } from "./residuals/residual-file.js";
import type { Connection } from "./session/connection.js";
import { LOSSLESS } from "./session/exact.js";
import { isInterruption } from "./session/interruption.js";
import { OutgoingModel } from "./session/outgoing-model.js";
import { Progress } from "./session/progress.js";
import { Retries, type RetryOptions } from "./session/retry.js";
import { ModelSender } from "./session/sender.js";
import type { TransferSummary } from "./session/summary.js";
import { TransferLife } from "./session/transfer.js";
import { joinedToken } from "./source/file-version.js";
import { openSource, type SourceLike } from "./source/open.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "./source/source.js";

/** One call: a source, and attempts to bring it to its destination. */
export class Sending {
  readonly #trace: TransferTrace;
  readonly #life: TransferLife;
  readonly #progress: Progress;
  #source: ModelSource | EncodedSource | undefined;
  /** Once the first peer's terms are known. */
  #model: OutgoingModel | undefined;
  /** Which tensors the first peer has asked for. */
  #asked: Hello["tensors"];
  #residuals: ResidualFile | undefined;
  /** The source is not busy any more with what an attempt that failed has asked for. */
  #idle: Promise<void> = Promise.resolve();

  constructor(
    private readonly source: SourceLike,
    private readonly destination: Endpoint,
    private readonly options: StreamOptions,
    readonly common?: CommonBudget | undefined,
  ) {
    this.#trace = new TransferTrace("send", options.logger);
    this.#life = new TransferLife(options.signal);
    this.#progress = new Progress(options.onProgress, (error) => this.#life.fail(error));
    this.#trace.position = this.#progress;
  }

  /** Rejects when it fails. */
  get failed(): Promise<never> {
    return this.#life.failed;
  }

  /** The other end has failed, which is in this process too. */
  fail(error: TensorwireError): void {
    this.#life.fail(error);
  }

  async run(): Promise<TransferSummary> {
    const life = this.#life;
    let outcome: TransferSummary | TensorwireError | undefined;
    try {
      outcome = await this.#run();
      return outcome;
    } catch (error) {
      life.fail(error);
      await this.#residuals?.abort();
      outcome = this.#advised(life.error!);
      throw outcome;
    } finally {
      life.end();
      await this.#source?.close();
      this.#trace.end(outcome!, this.#model?.loans ?? 0);
    }
  }

  async #run(): Promise<TransferSummary> {
    const { options, destination } = this;
    const [life, progress] = [this.#life, this.#progress];
    checkStreamOptions(options);
    const settings = await resolveOptions(options);
    const policy = policyOf(options);
    if (life.error) throw life.error;
    const from = await openSource(this.source, options, settings);
    this.#source = from;
    if (options.residuals !== undefined && isEncodedSource(from)) throw encodedAlready(from);
    const retries = new Retries({
      options: retryOf(settings, from, destination),
      life,
      trace: this.#trace,
      listening: destination instanceof Listener,
      position: () => progress.acknowledgedBytes,
      retrying: () => progress.retries++,
    });
    const info = await from.open();
    const summary = await retries.run((own) => this.#attempt(info, { settings, policy, retries, life: own }));
    progress.done();
    return summary;
  }

  async #attempt(info: ModelInfo | Manifest, call: Call): Promise<TransferSummary> {
    const { settings, retries, life } = call;
    let connection: Connection | undefined;
    let owned = false;
    try {
      // What an earlier attempt has asked the source for comes first.
      await life.race(this.#idle);
      const opened = await openConnection(
        this.destination,
        "send",
        { ...this.options, signal: life.jobs },
        settings,
      );
      ({ connection, owned } = opened);
      // A channel without a way back carries no HELLO either: whoever reads it takes it as it is.
      const twoWay = connection.channel.direction === "both";
      const hello = twoWay ? await life.race(connection.hello) : undefined;
      retries.reached();
      const model = await this.#prepare(info, hello, call);
      const sender = new ModelSender(connection, {
        ...settings,
        ...model.parts,
        ...this.#encoding(settings, hello),
        budget: this.common ?? settings.budget,
        progress: this.#progress,
        life,
        trace: this.#trace,
        maxManifestBytes: (hello?.limits ?? settings.limits).maxManifestBytes,
        ifChanged: this.options.ifChanged ?? "resend",
        owned,
      });
      const summary = await sender.run().finally(() => {
        // For the next attempt to wait for: this one has failed, whatever its source is still at.
        this.#idle = sender.idle;
      });
      retries.complete();
      // Of a peer that has confirmed nothing can be taken back; of a pipe nobody knows before it is closed.
      if (summary.confirmed) await this.#residuals?.replace();
      if (owned) await connection.close();
      if (!summary.confirmed) await this.#residuals?.replace();
      return summary;
    } catch (error) {
      life.fail(error);
      // Before there is a transfer the peer is told of the connection.
      if (owned && connection) await life.abandon(connection, { transfer: 0, flags: 0, owned });
      throw life.error;
    }
  }

  /** The model on the first peer's terms; on those of another one later it must be possible as it is. */
  async #prepare(info: ModelInfo | Manifest, hello: Hello | undefined, call: Call): Promise<OutgoingModel> {
    const { settings, policy } = call;
    const { options } = this;
    if (this.#model) {
      checkTerms(this.#model.parts.manifest, hello, settings);
      checkAskedAlike(this.#asked, hello);
      return this.#model;
    }
    this.#asked = hello?.tensors;
    const whole = { source: this.#source!, model: info };
    const { source, model } = this.#asked ? await askedOf(whole, this.#asked) : whole;
    const { chunkBytes, seed } = options;
    // Of an artifact that has less the other end says so, which demands it too.
    const near = this.destination instanceof ChannelEnd && isEncodedSource(source);
    const integrity = near ? undefined : options.integrity;
    const version = options.version ?? source.version;
    const manifest = outgoingManifest(model, source, {
      ...{ hello, policy, settings, chunkBytes, seed, version, integrity },
    });
    this.#trace.manifest = manifest;
    const plan = planManifest(manifest, settings.limits, settings.registry);
    this.#progress.totalBytes = plan.bytes;
    this.#progress.totalTensors = manifest.tensors.length;
    if (options.residuals !== undefined) {
      this.#residuals = await ResidualFile.open(options.residuals, manifest, settings.limits);
    }
    const residuals = this.#residuals;
    const feedback =
      residuals && new ErrorFeedback(residuals, { manifest, plan, ...settings, jobs: this.#life.jobs });
    // Payloads are made of the residuals, too.
    const token = version && residuals ? joinedToken(version, residuals.version) : version;
    this.#model = new OutgoingModel({ ...settings, manifest, plan, source, version: token, feedback });
    return this.#model;
  }

  #encoding({ registry }: ResolvedOptions, hello: Hello | undefined) {
    const { compress = "never", nonFinite = "exact" } = this.options;
    // Whoever reads a channel without a way back has what this side has.
    const known = registry.names();
    const lossless = [known, hello?.codecs ?? known].every((names) => names.includes(LOSSLESS));
    return { compress: compress === "auto", nonFinite, lossless };
  }

  /** Of a source that can be read once an interruption is the end. */
  #advised(error: TensorwireError): TensorwireError {
    const source = this.#source;
    const once = source && !isEncodedSource(source) && source.oneShot;
    if (!once || !isInterruption(error) || error.code === "ABORTED") return error;
    const { code, message, peerCode } = error;
    const advice = `${message}; ${quote(source.name)} can be read only once, so that this transfer cannot go on: begin another one with a source that begins anew`;
    return new TensorwireError(code, advice, { cause: error, peerCode, retryable: false });
  }
}

/** What an attempt needs of its call. */
interface Call {
  readonly settings: ResolvedOptions;
  readonly policy: Policy;
  readonly retries: Retries;
  readonly life: TransferLife;
}

/** @throws TensorwireError `INVALID_ARGUMENT` where nothing can be tried again. */
function retryOf(
  { retry }: ResolvedOptions,
  source: ModelSource | EncodedSource,
  destination: Endpoint,
): RetryOptions | undefined {
  if (!retry) return undefined;
  if (!isEncodedSource(source) && source.oneShot) {
    const message = `${quote(source.name)} can be read only once, so that an interrupted transfer of it cannot go on: leave retry out`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  checkReopens(destination);
  return retry;
}

function encodedAlready({ name }: EncodedSource): TensorwireError {
  return new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(name)} is encoded already, and what that left out is not known: send the model itself with residuals`,
  );
}

function policyOf({ codec, policy, minElements }: StreamOptions): Policy {
  if (policy && codec !== undefined) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "give a codec or a policy, not both: a policy names its own default codec",
    );
  }
  return {
    ...(policy ?? (codec !== undefined && { codec })),
    ...(minElements !== undefined && { minElements }),
  };
}
