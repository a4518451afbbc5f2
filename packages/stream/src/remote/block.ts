import type { Loan } from "@tensorwire/core";
import { deferred } from "../session/deferred.js";
import { SharedLoan } from "../source/shared-loan.js";

/** A part of a block that is fetched by itself. */
export interface Piece {
  readonly block: Block;
  readonly position: number;
  readonly target: Uint8Array;
}

/**
 * A run of a file's bytes in memory, fetched in pieces and lent in parts. Its memory goes back when nobody fetches into it, has a
 * part of it, or wants one.
 */
export class Block {
  readonly end: number;
  readonly #shared: SharedLoan;
  readonly #ready = deferred<void>();
  /** Pieces that are not there yet, and those that are being written. */
  #missing = 0;
  #writing = 0;
  #dropped = false;

  constructor(
    readonly position: number,
    private readonly loan: Loan,
  ) {
    this.end = position + loan.bytes.length;
    this.#shared = new SharedLoan(loan);
  }

  /** The block as pieces of about the same size, of at most `bytes` each. */
  pieces(bytes: number): Piece[] {
    const { length } = this.loan.bytes;
    const count = Math.ceil(length / bytes);
    const each = Math.ceil(length / count);
    const pieces: Piece[] = [];
    for (let at = 0; at < length; at += each) {
      pieces.push({
        block: this,
        position: this.position + at,
        target: this.loan.bytes.subarray(at, at + each),
      });
    }
    this.#missing = pieces.length;
    return pieces;
  }

  /** Somebody writes a piece, until `write` is over. */
  async filled(write: Promise<void>): Promise<void> {
    this.#writing++;
    try {
      await write;
      if (--this.#missing === 0) this.#ready.resolve();
    } catch (error) {
      this.#ready.reject(error);
    }
    this.#writing--;
    this.#settle();
  }

  /** A part, when all of the block is there. @throws what a piece failed with, or what it was dropped for. */
  async part(position: number, end: number): Promise<Loan> {
    // Lent at once, so that the memory stays.
    const part = this.#shared.part(position - this.position, end - this.position);
    try {
      await this.#ready.promise;
      return part;
    } catch (error) {
      part.release();
      throw error;
    }
  }

  /** Nobody will ask for a part any more. */
  drop(reason?: Error): void {
    if (this.#dropped) return;
    this.#dropped = true;
    if (reason) this.#ready.reject(reason);
    this.#settle();
  }

  #settle(): void {
    if (this.#dropped && this.#writing === 0) this.#shared.release();
  }
}
