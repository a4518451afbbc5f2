import { MAX_BODY_BYTES } from "./http-exchange.js";

const FIRST_BYTES = 128 * 1024;
/** However long a body takes, it has no less: where the way is long, smaller ones would take as long. */
const LEAST_BYTES = 64 * 1024;
/** Where something between takes no bodies, its headers would outweigh a smaller body. */
export const MIN_BODY_BYTES = 4 * 1024;
/**
 * How long a body should take. Proxies, and people, lose patience with requests that last; and what is under way is what
 * has to be kept, and repeated when a connection breaks.
 */
const BODY_MS = 2_000;

/** How many bytes one request carries: as many as fit into its time at the rate that earlier ones had. */
export class BodySize {
  #bytes = FIRST_BYTES;
  #most = MAX_BODY_BYTES;

  get bytes(): number {
    return this.#bytes;
  }

  /** What is kept of a direction: a body that is on its way, and one that gathers meanwhile. */
  get kept(): number {
    return 2 * this.#bytes;
  }

  /** A body was carried in that time. */
  took(bytes: number, milliseconds: number): void {
    // A small one says how far the peer is, and not how wide the line.
    if (bytes < this.#bytes / 2 && milliseconds < BODY_MS) return;
    const fitting = (bytes / Math.max(milliseconds, 1)) * BODY_MS;
    this.#set(Math.min(fitting, 4 * this.#bytes));
  }

  /** A body did not get through. */
  broke(): void {
    this.#set(this.#bytes / 2);
  }

  /** Something between takes no bodies of that size (status 413). Whether a smaller one is left to try. */
  refused(bytes: number): boolean {
    if (bytes <= MIN_BODY_BYTES) return false;
    this.#most = Math.max(MIN_BODY_BYTES, Math.floor(bytes / 2));
    this.#set(this.#bytes);
    return true;
  }

  #set(bytes: number): void {
    this.#bytes = Math.floor(Math.min(Math.max(LEAST_BYTES, bytes), this.#most));
  }
}
