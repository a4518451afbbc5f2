import { Attempts, StatusError } from "./http-attempts.js";
import { BodySize } from "./body-size.js";
import { countOf, endOf, FROM, MOST, OFFSET } from "./http-exchange.js";
import type { HttpAnswer } from "./http-line.js";

/** What the GETs of a channel ask, and whom they tell. */
export interface Getting {
  ask(headers: Record<string, string>, signal: AbortSignal): Promise<HttpAnswer>;
  /** Reads all of an answer. How many bytes it had. */
  hear(answer: HttpAnswer): Promise<number>;
  fail(cause: unknown): void;
  /** Place behind what has come. */
  readonly taken: number;
  /** Nothing more is to come. */
  readonly over: boolean;
}

/**
 * Asks for what the server has to say: one GET waits, or begins, while the answer to the one before is read. Where it is to
 * begin is known as soon as that one says how long it is.
 */
export class HttpGets {
  readonly #size = new BodySize();
  readonly #attempts = new Attempts();

  constructor(
    private readonly channel: Getting,
    /** Ends everything. */
    private readonly stop: AbortSignal,
  ) {}

  /** Resolves when nothing more is to come; never rejects. */
  async run(): Promise<void> {
    while (!this.channel.over) {
      const broken = new AbortController();
      try {
        await this.#follow(broken);
      } catch (error) {
        // The other one would bring what comes behind a gap.
        broken.abort(error);
        if (this.channel.over) return;
        try {
          this.#size.broke();
          await this.#attempts.again(error, this.stop);
        } catch (cause) {
          return this.channel.fail(cause);
        }
      }
    }
  }

  /** GETs, each from where the one before ends, until one breaks. */
  async #follow(broken: AbortController): Promise<void> {
    const { channel } = this;
    const signal = AbortSignal.any([this.stop, broken.signal]);
    let heard: Promise<void> = Promise.resolve();
    let from = channel.taken;
    while (!channel.over) {
      const headers = { [FROM]: String(from), [MOST]: String(this.#size.bytes) };
      const answer = await channel.ask(headers, signal);
      // It may break while it waits for its turn.
      answer.body.on("error", () => {});
      const offset = countOf(answer.headers, OFFSET);
      const length = countOf(answer.headers, "content-length");
      await heard;
      if (offset !== undefined && offset > channel.taken) throw new StatusError(answer.statusCode);
      heard = this.#hear(answer);
      // Whoever waits for the next answer is told.
      heard.catch((error) => broken.abort(error));
      // Something between has taken the length away, or there is nothing more.
      if (offset === undefined || length === undefined || endOf(answer.headers)) await heard;
      from = Math.max(channel.taken, (offset ?? 0) + (length ?? 0));
    }
    await heard;
  }

  async #hear(answer: HttpAnswer): Promise<void> {
    const start = performance.now();
    this.#size.took(await this.channel.hear(answer), performance.now() - start);
    this.#attempts.progress();
  }
}
