import { FLAG_TO_SENDER, type FrameHeader, type Limits, type TensorwireError } from "@tensorwire/core";
import type { ReceivingEnd, TransferEnd } from "./transfer-end.js";
import { type WaitingManifest, WaitingManifests } from "./waiting-manifests.js";

/** The transfers of one connection, in both directions: those under way, and on either side those that wait for the other. */
export class TransferEnds {
  readonly #sending = new Map<number, TransferEnd>();
  readonly #receiving = new Map<number, TransferEnd>();
  /** Receivers that wait for a transfer to begin. */
  readonly #receivers: ReceivingEnd[] = [];
  /** Transfers that wait for a receiver. */
  readonly #manifests: WaitingManifests;
  #opened = 0;

  constructor(limits: Limits) {
    this.#manifests = new WaitingManifests(limits);
  }

  /** How many there are here, for which something is to come from the peer. */
  get count(): number {
    return this.#receivers.length + this.#sending.size + this.#receiving.size;
  }

  /** What those that receive wait for before more bytes are welcome; `undefined` when they are now. */
  brake(): Promise<void> | undefined {
    for (const end of this.#receiving.values()) {
      const brake = end.brake?.();
      if (brake) return brake;
    }
    return undefined;
  }

  /** One that begins here. @returns its number. */
  open(end: TransferEnd): number {
    this.#sending.set(++this.#opened, end);
    return this.#opened;
  }

  /** Gives `end` the next transfer that the peer begins. */
  receive(end: ReceivingEnd): void {
    const waiting = this.#manifests.take();
    if (waiting) this.#begin(end, waiting);
    else this.#receivers.push(end);
  }

  /** A manifest of so many bytes is coming. @throws TensorwireError `LIMIT_EXCEEDED` where too much waits already. */
  admit(bytes: number): void {
    if (!this.#receivers.length) this.#manifests.admit(bytes);
  }

  /** The peer has begun one. */
  announced(manifest: WaitingManifest): void {
    const receiver = this.#receivers.shift();
    if (receiver) this.#begin(receiver, manifest);
    else this.#manifests.add(manifest);
  }

  #begin(end: ReceivingEnd, { transfer, body, source }: WaitingManifest): void {
    this.#receiving.set(transfer, end);
    end.begin(transfer, body, source);
  }

  /** Whether it was announced, and nobody here has taken it yet. */
  waits(transfer: number): boolean {
    return this.#manifests.has(transfer);
  }

  /** The peer gave up one that nobody here has begun. */
  withdraw(transfer: number): void {
    this.#manifests.cancel(transfer);
  }

  /** Whose a frame is. */
  of({ flags, transfer }: FrameHeader): TransferEnd | undefined {
    return (flags & FLAG_TO_SENDER ? this.#sending : this.#receiving).get(transfer);
  }

  /** Forgets one that is over. */
  release(end: TransferEnd): void {
    const waiting = this.#receivers.indexOf(end as ReceivingEnd);
    if (waiting >= 0) this.#receivers.splice(waiting, 1);
    for (const ends of [this.#sending, this.#receiving]) {
      for (const [transfer, other] of ends) if (other === end) ends.delete(transfer);
    }
  }

  /** The connection is gone. */
  fail(error: TensorwireError): void {
    for (const receiver of this.#receivers.splice(0)) receiver.fail(error);
    for (const end of [...this.#sending.values(), ...this.#receiving.values()]) end.fail(error);
  }
}
