import type { Readable } from "node:stream";
import { TensorwireError } from "@tensorwire/core";

const NOTHING = new Uint8Array();

/** What a body is, of the file that was asked for. */
export interface BodyPlace {
  /** Where in the file the body begins. */
  readonly first: number;
  /** The byte after its last one. */
  readonly end: number;
  /** It is all of the file, whatever was asked for. */
  readonly whole: boolean;
  /** The server has said how many bytes come: the connection can be used again when they have. */
  readonly sized: boolean;
}

/** How long a body may be silent while somebody waits for it; 0 is for ever. */
export interface Patience {
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** The body of an answer, read forward at the pace of whoever takes it: nothing is kept but the portion that came last. */
export class AnswerBody {
  #position: number;
  #left: Uint8Array = NOTHING;
  readonly #portions: AsyncIterator<Uint8Array>;

  constructor(
    private readonly body: Readable,
    private readonly place: BodyPlace,
  ) {
    this.#position = place.first;
    // What fails while nobody reads shows when somebody does.
    body.on("error", () => {});
    this.#portions = body[Symbol.asyncIterator]();
  }

  /** Where in the file its next byte is. */
  get position(): number {
    return this.#position;
  }

  get end(): number {
    return this.place.end;
  }

  get whole(): boolean {
    return this.place.whole;
  }

  /** Passes over so many bytes. */
  skip(bytes: number, patience: Patience): Promise<void> {
    return this.#take(bytes, patience, () => {});
  }

  /**
   * Fills `target`, and says of each portion how far that has come.
   * @throws TensorwireError `IDLE_TIMEOUT`; any other error where the connection broke, or the body ended before that.
   */
  fill(target: Uint8Array, patience: Patience, came: (bytes: number) => void): Promise<void> {
    let filled = 0;
    return this.#take(target.length, patience, (portion) => {
      target.set(portion, filled);
      filled += portion.length;
      came(portion.length);
    });
  }

  async #take(bytes: number, patience: Patience, use: (portion: Uint8Array) => void): Promise<void> {
    const { idleTimeoutMs, signal } = patience;
    const onAbort = (): void => void this.body.destroy(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort);
    const silence =
      idleTimeoutMs > 0
        ? setTimeout(() => this.body.destroy(silent(idleTimeoutMs)), idleTimeoutMs)
        : undefined;
    try {
      for (let missing = bytes; missing > 0; ) {
        if (this.#left.length === 0) {
          const { value, done } = await this.#portions.next();
          if (done) throw new Error(`the answer ended ${this.end - this.#position} bytes too early`);
          this.#left = value;
          silence?.refresh();
        }
        const portion = this.#left.subarray(0, missing);
        this.#left = this.#left.subarray(portion.length);
        this.#position += portion.length;
        missing -= portion.length;
        use(portion);
      }
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** All of it was read, and the connection can serve others; or it is dropped with what else it brings. */
  finish(): void {
    if (!this.place.sized || this.#position < this.end || this.#left.length > 0) return this.drop();
    this.#portions.next().then(
      ({ done }) => !done && this.drop(),
      () => {},
    );
  }

  /** Ends the connection. */
  drop(): void {
    this.body.destroy();
  }
}

const silent = (idleTimeoutMs: number): TensorwireError =>
  new TensorwireError(
    "IDLE_TIMEOUT",
    `the server sent nothing for ${idleTimeoutMs} ms: try again, or raise idleTimeoutMs`,
  );
