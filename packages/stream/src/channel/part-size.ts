import { MAX_PART_BYTES } from "./http-exchange.js";

const FIRST_BYTES = 128 * 1024;
/** A part is never smaller: its headers would outweigh it. */
export const MIN_PART_BYTES = 4 * 1024;
/** What lies between a peer and us ends requests that last: half of the 20 seconds that one may take. */
const LONGEST_MS = 10_000;

/** How many bytes one request carries: as many as fit into its time at the rate that earlier ones had. */
export class PartSize {
  #bytes = FIRST_BYTES;
  #most = MAX_PART_BYTES;

  get bytes(): number {
    return this.#bytes;
  }

  /** A part was carried in that time. */
  took(bytes: number, milliseconds: number): void {
    // A small one says how far the peer is, and not how wide the line.
    if (bytes < this.#bytes / 2 && milliseconds < LONGEST_MS) return;
    const fitting = (bytes / Math.max(milliseconds, 1)) * LONGEST_MS;
    this.#set(Math.min(fitting, 4 * this.#bytes));
  }

  /** A part did not get through. */
  broke(): void {
    this.#set(this.#bytes / 2);
  }

  /** Something between takes no bodies of that size (status 413). Whether a smaller one is left to try. */
  refused(bytes: number): boolean {
    if (bytes <= MIN_PART_BYTES) return false;
    this.#most = Math.max(MIN_PART_BYTES, Math.floor(bytes / 2));
    this.#set(this.#bytes);
    return true;
  }

  #set(bytes: number): void {
    this.#bytes = Math.floor(Math.max(MIN_PART_BYTES, Math.min(bytes, this.#most)));
  }
}
