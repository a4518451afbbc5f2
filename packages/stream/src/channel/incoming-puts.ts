import type { IncomingMessage, ServerResponse } from "node:http";
import { answer } from "./http-answer.js";

/** A PUT: bytes of the peer's, and where they belong. */
export interface IncomingPut {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly offset: number;
}

/** PUTs that wait for an earlier one; a peer has two under way. */
const MAX_WAITING = 4;

/** How long they wait where no earlier one is being read: it was lost, and its peer will begin again from there. */
const MISSING_MS = 5_000;

/**
 * Puts the bodies of PUTs in order. One is read at a time; later ones wait unread, in the system's buffers. What came
 * before is passed over, so that a repetition does no harm: one takes the place of the one that it repeats.
 */
export class IncomingPuts {
  #received = 0;
  #started = false;
  #reading: IncomingPut | undefined;
  #waiting: IncomingPut[] = [];
  #missing: NodeJS.Timeout | undefined;

  constructor(
    private readonly to: {
      bytes(portion: Uint8Array): void;
      /** All of a body has come: it is to be answered. */
      taken(put: IncomingPut): void;
    },
  ) {}

  /** Bytes of the direction that have come. */
  get received(): number {
    return this.#received;
  }

  start(): void {
    this.#started = true;
    this.#next();
  }

  /** Ends what is under way. */
  stop(): void {
    clearTimeout(this.#missing);
    this.#giveUp();
    this.#reading?.request.destroy();
  }

  enter(put: IncomingPut): void {
    put.request.on("error", () => {});
    // The peer, or what lies between, has given the earlier one up.
    const repeated = this.#waiting.filter(({ offset }) => offset === put.offset);
    if (repeated.length > 0) {
      this.#waiting = this.#waiting.filter((other) => !repeated.includes(other));
      for (const { request } of repeated) request.destroy();
    }
    if (put.offset > this.#received && this.#waiting.length >= MAX_WAITING) {
      put.request.resume();
      return answer(put.response, 409);
    }
    this.#waiting.push(put);
    put.request.once("close", () => {
      this.#waiting = this.#waiting.filter((other) => other !== put);
    });
    const reading = this.#reading;
    if (reading && put.offset < reading.offset + lengthOf(reading.request)) reading.request.destroy();
    this.#next();
  }

  #next(): void {
    if (!this.#started || this.#reading) return;
    clearTimeout(this.#missing);
    const at = this.#waiting.findIndex(({ offset }) => offset <= this.#received);
    if (at >= 0) this.#read(this.#waiting.splice(at, 1)[0]!);
    else if (this.#waiting.length > 0) this.#missing = setTimeout(() => this.#giveUp(), MISSING_MS);
  }

  // Of a request that nobody reads nobody would hear that it is over.
  #giveUp(): void {
    for (const { request } of this.#waiting.splice(0)) request.destroy();
  }

  #read(put: IncomingPut): void {
    this.#reading = put;
    let at = put.offset;
    const { request } = put;
    request.on("data", (portion: Buffer) => {
      const known = this.#received - at;
      at += portion.length;
      if (known >= portion.length) return;
      const fresh = known > 0 ? portion.subarray(known) : portion;
      this.#received += fresh.length;
      this.to.bytes(fresh);
    });
    let whole = false;
    request.on("end", () => {
      whole = true;
      this.#reading = undefined;
      this.to.taken(put);
      this.#next();
    });
    request.on("close", () => {
      if (whole) return;
      this.#reading = undefined;
      // Where there is a repetition, it is that of this one.
      if (!this.#waiting.some(({ offset }) => offset <= this.#received)) this.#giveUp();
      this.#next();
    });
  }
}

/** The body's length. Unknown is as good as endless. */
function lengthOf({ headers }: IncomingMessage): number {
  const length = Number(headers["content-length"]);
  return Number.isSafeInteger(length) ? length : Number.POSITIVE_INFINITY;
}
