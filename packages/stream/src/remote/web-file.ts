import { TensorwireError } from "@tensorwire/core";
import { shownUrl } from "../channel/address.js";
import { Attempts, StatusError } from "../channel/http-attempts.js";
import type { HttpAnswer, HttpLineOptions } from "../channel/http-line.js";
import { statusError } from "../channel/refusal-status.js";
import { dialFault } from "../channel/dial-fault.js";
import { AnswerBody } from "./answer-body.js";
import { contentLength, contentRange, isEncoded, strongTag } from "./answer-headers.js";
import { Redirects } from "./redirects.js";

export interface WebFileOptions extends HttpLineOptions {
  /** Requests at once, at most. */
  readonly concurrency: number;
  readonly idleTimeoutMs: number;
  /** Only of a server whose answer to HEAD announces ranges: any other is asked for nothing. */
  readonly announced?: boolean | undefined;
}

/** What a server has said of a file, by which it is known again. */
interface FileState {
  readonly size: number;
  /** Its strong entity tag, if it has one. */
  readonly tag: string | undefined;
  /** Whether parts of it can be asked for. */
  readonly ranged: boolean;
}

/** A file on any web server, of which parts are asked for; all in the state that it was opened in. */
export class WebFile {
  /** For messages. */
  readonly name: string;
  readonly #requests: Redirects;
  #state: FileState | undefined;
  #ranged = true;
  readonly #announced: boolean;

  /** @throws TensorwireError `INVALID_ARGUMENT` for options that are none, or a token in clear text. */
  constructor(url: string, { concurrency, announced = false, ...options }: WebFileOptions) {
    this.#announced = announced;
    const at = new URL(url);
    at.hash = "";
    this.name = shownUrl(url);
    this.#requests = new Redirects(at, { ...options, connections: concurrency });
  }

  /** Bytes of it. */
  get size(): number {
    return this.#known.size;
  }

  /** Every answer is known to be of the state that was opened. */
  get tagged(): boolean {
    return this.#known.tag !== undefined;
  }

  /** Whether parts of it can be asked for: else every answer is all of it. */
  get ranged(): boolean {
    return this.#ranged;
  }

  get #known(): FileState {
    if (this.#state) return this.#state;
    throw new TensorwireError("INVALID_ARGUMENT", `${this.name} is not open`);
  }

  /**
   * Asks how long it is: by HEAD, or by a first range where that is refused.
   * @throws TensorwireError `CHANNEL_OPEN`, or what the status stands for; `SOURCE_INVALID` where its length is not known.
   */
  async open(signal: AbortSignal): Promise<void> {
    const attempts = new Attempts(`opening ${this.name}`);
    while (!this.#state) {
      try {
        this.#state = (await this.#byHead(signal)) ?? (await this.#otherwise(signal));
        this.#ranged = this.#state.ranged;
      } catch (cause) {
        signal.throwIfAborted();
        if (cause instanceof TensorwireError) throw cause;
        if (!(cause instanceof StatusError)) throw dialFault(this.name, cause);
        const refusal = statusError(this.name, cause.status);
        await attempts.again(refusal.retryable ? cause : refusal, signal).catch(() => {
          signal.throwIfAborted();
          throw refusal;
        });
      }
    }
  }

  async #byHead(signal: AbortSignal): Promise<FileState | undefined> {
    const { statusCode, headers, body } = await this.#ask("HEAD", {}, signal);
    // Servers that mean HEAD by it send no body: nothing is waited for.
    body.on("error", () => {}).resume();
    const size = contentLength(headers);
    if (statusCode !== 200 || size === undefined || isEncoded(headers)) return undefined;
    const ranges = headers["accept-ranges"]?.toLowerCase();
    const ranged = this.#announced ? ranges === "bytes" : ranges !== "none";
    return { size, tag: strongTag(headers), ranged };
  }

  #otherwise(signal: AbortSignal): Promise<FileState> {
    if (this.#announced) throw this.#unusable("announces no ranges");
    return this.#byRange(signal);
  }

  async #byRange(signal: AbortSignal): Promise<FileState> {
    const { statusCode, headers, body } = await this.#ask("GET", { range: "bytes=0-0" }, signal);
    // Dropped, not read: it may be all of the file, and a server may never end what it says of its refusal.
    body.on("error", () => {}).destroy();
    const tag = strongTag(headers);
    if (statusCode === 206) {
      const size = contentRange(headers)?.size;
      if (size !== undefined && !isEncoded(headers)) return { size, tag, ranged: true };
    } else if (statusCode === 200) {
      const size = contentLength(headers);
      if (size !== undefined && !isEncoded(headers)) return { size, tag, ranged: false };
    } else {
      throw new StatusError(statusCode);
    }
    const message = `${this.name}: its server does not say how many bytes it has, and so it cannot be read by position`;
    throw new TensorwireError("SOURCE_INVALID", message);
  }

  /**
   * The bytes from `first` to `end`; fewer, or all of the file, where its server has it so.
   * @throws TensorwireError `SOURCE_CHANGED`; `StatusError` for a status that may pass; what the connection failed with.
   */
  async body(first: number, end: number, signal: AbortSignal): Promise<AnswerBody> {
    const { tag } = this.#known;
    const range = this.#ranged
      ? { range: `bytes=${first}-${end - 1}`, ...(tag !== undefined && { "if-range": tag }) }
      : {};
    const answer = await this.#ask("GET", range, signal);
    try {
      return this.#bodyOf(answer, first, end);
    } catch (error) {
      answer.body.on("error", () => {}).destroy();
      throw error;
    }
  }

  #bodyOf({ statusCode, headers, body }: HttpAnswer, first: number, end: number): AnswerBody {
    const { size, tag } = this.#known;
    const now = strongTag(headers);
    if (statusCode === 200 || statusCode === 206) {
      if (tag !== undefined && now !== undefined && now !== tag)
        throw this.#changed("it has another entity tag");
      if (isEncoded(headers)) throw this.#unusable("compresses it, though asked not to");
    }
    const length = contentLength(headers);
    switch (statusCode) {
      case 206: {
        const range = contentRange(headers);
        if (!range || range.first !== first || range.end > end)
          throw this.#unusable("answers with other bytes than were asked for");
        if (range.size !== undefined && range.size !== size)
          throw this.#changed(`it had ${size} bytes and has ${range.size}`);
        return new AnswerBody(body, { ...range, whole: false, sized: length === range.end - range.first });
      }
      case 200:
        if (length !== undefined && length !== size)
          throw this.#changed(`it had ${size} bytes and has ${length}`);
        this.#ranged = false;
        return new AnswerBody(body, { first: 0, end: size, whole: true, sized: length !== undefined });
      case 412:
      case 416:
        throw this.#changed(`its server has not got the bytes from ${first} to ${end} any more`);
      case 404:
      case 410:
        throw this.#changed("it is there no longer");
    }
    if (statusCode === 408 || statusCode === 429 || statusCode >= 500) throw new StatusError(statusCode);
    throw statusError(this.name, statusCode);
  }

  async #ask(
    method: "HEAD" | "GET",
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const asking = { method, headers: { ...headers, "accept-encoding": "identity" }, signal };
    const answer = await this.#requests.ask(asking);
    const { statusCode } = answer;
    if (statusCode < 400 || statusCode === 416 || statusCode >= 500 || !this.#requests.redirected)
      return answer;
    // Where the URL led to was good for a while only, as signed ones are: it may lead elsewhere now.
    answer.body.on("error", () => {}).destroy();
    this.#requests.forget();
    return this.#requests.ask(asking);
  }

  #changed(how: string): TensorwireError {
    return new TensorwireError("SOURCE_CHANGED", `${this.name} changed while it was being read: ${how}`);
  }

  #unusable(what: string): TensorwireError {
    const message = `${this.name}: its server, or something before it, ${what}: it cannot be read by position`;
    return new TensorwireError("SOURCE_INVALID", message);
  }

  /** Ends every connection at once. */
  close(): void {
    this.#requests.close();
  }
}
