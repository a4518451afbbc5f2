import { TensorwireError } from "@tensorwire/core";
import { Attempts } from "../channel/http-attempts.js";
import type { AnswerBody } from "./answer-body.js";
import type { WebFile } from "./web-file.js";

/**
 * Reads ranges of a file on a web server into memory of the caller, however often their connections break: each goes on from
 * where it has got to. Of a server that answers with all of the file whatever is asked, one answer is read forward, and what
 * lies between is passed over.
 */
export class WebRanges {
  /** The answer that is all of the file, and what is done with it, one at a time. */
  #whole: AnswerBody | undefined;
  /** An answer that is all of the file is of use: else it is refused. */
  forward = true;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly file: WebFile,
    private readonly idleTimeoutMs: number,
  ) {}

  /**
   * Fills `target` from `position` on.
   * @throws TensorwireError `SOURCE_CHANGED`, `CHANNEL_CLOSED`, `IDLE_TIMEOUT`, or what a status stands for.
   */
  async read(position: number, target: Uint8Array, signal: AbortSignal): Promise<void> {
    const attempts = new Attempts(`reading ${this.file.name}`);
    let filled = 0;
    let moved = false;
    const came = (bytes: number): void => {
      filled += bytes;
      moved = true;
      attempts.progress();
    };
    while (filled < target.length) {
      signal.throwIfAborted();
      moved = false;
      try {
        const rest = target.subarray(filled);
        if (this.file.ranged) await this.#part(position + filled, rest, signal, came);
        else await this.#inTurn(() => this.#forward(position + filled, rest, signal, came));
      } catch (error) {
        signal.throwIfAborted();
        await attempts.again(brief(error, moved), signal);
      }
    }
  }

  async #part(
    position: number,
    target: Uint8Array,
    signal: AbortSignal,
    came: (bytes: number) => void,
  ): Promise<void> {
    const body = await this.file.body(position, position + target.length, signal);
    if (body.whole) {
      if (!this.forward) {
        body.drop();
        throw withoutRanges(this.file.name);
      }
      // Others that were under way have the same answer: one is enough.
      if (this.#whole) body.drop();
      else this.#whole = body;
      return;
    }
    await this.#fill(body, target.subarray(0, body.end - position), signal, came);
    body.finish();
  }

  async #forward(
    position: number,
    target: Uint8Array,
    signal: AbortSignal,
    came: (bytes: number) => void,
  ): Promise<void> {
    if (this.#whole && this.#whole.position > position) {
      this.#whole.drop();
      this.#whole = undefined;
    }
    this.#whole ??= await this.file.body(0, this.file.size, signal);
    const body = this.#whole;
    try {
      await body.skip(position - body.position, this.#patience(signal));
      await this.#fill(body, target, signal, came);
      if (body.position < body.end) return;
      this.#whole = undefined;
      body.finish();
    } catch (error) {
      this.#whole = undefined;
      throw error;
    }
  }

  async #fill(
    body: AnswerBody,
    target: Uint8Array,
    signal: AbortSignal,
    came: (bytes: number) => void,
  ): Promise<void> {
    try {
      await body.fill(target, this.#patience(signal), came);
    } catch (error) {
      body.drop();
      throw error;
    }
  }

  #patience(signal: AbortSignal) {
    return { idleTimeoutMs: this.idleTimeoutMs, signal };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Gives up the answer that is read forward. */
  close(): void {
    this.#whole?.drop();
    this.#whole = undefined;
  }
}

/** What is wrong with a server that knows no ranges, for who wants nothing else. */
export function withoutRanges(name: string): TensorwireError {
  const message = `${name}: its server answers with all of the file, whatever part is asked for: it cannot be read by position`;
  return new TensorwireError("SOURCE_INVALID", message);
}

/** A server that falls silent after it has sent something may answer another request; one that does not even do that is gone. */
function brief(error: unknown, moved: boolean): unknown {
  const silent = error instanceof TensorwireError && error.code === "IDLE_TIMEOUT";
  return silent && moved ? new Error(error.message, { cause: error }) : error;
}
