import {
  type ChunkRange,
  commonRanges,
  DEFAULT_LIMITS,
  encodeAck,
  encodeCredit,
  encodeFrame,
  encodeHeld,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  type Integrity,
  maxHeldChunks,
  maxWantRanges,
  missingRanges,
  type Totals,
  type Want,
} from "@tensorwire/core";
import type { Connection } from "./connection.js";
import { type CreditLedger, CreditNotice } from "./credit.js";
import { withinGrace } from "./grace.js";
import type { HeldChunks } from "./held-chunks.js";
import type { ReceiverSettings } from "./receiver-settings.js";

/**
 * What the receiving end tells the sender, on one connection with a way back: what it has and wants, then credit and what is
 * durable, then the receipt.
 */
export class ReceiverVoice {
  readonly #credit = new CreditNotice(() => this.#sendCredit());
  readonly #acks = new CreditNotice(() => this.#sendAck());
  #transfer = 0;
  #integrity: Integrity = "xxh64";
  #asked = false;
  #resting = false;
  #writing = 0;

  /** @param ledger What credit and acknowledgements say. */
  constructor(
    private readonly connection: Connection,
    private readonly settings: Pick<ReceiverSettings, "limits" | "life">,
    private readonly ledger: CreditLedger,
  ) {}

  /** The transfer that it speaks of, once that is known. */
  begin(transfer: number, integrity: Integrity): void {
    this.#transfer = transfer;
    this.#integrity = integrity;
  }

  /** Whether WANT is said, or on its way. */
  get asked(): boolean {
    return this.#asked;
  }

  /** Whether there is credit that the peer does not know of yet. */
  get granting(): boolean {
    return this.#credit.busy;
  }

  /** Whether a frame has not left yet. */
  get writing(): boolean {
    return this.#writing > 0;
  }

  /** Says what is held. @returns what is to be asked for, of a part, where that is all. */
  async tellHeld(
    held: HeldChunks,
    chunks: number,
    part: readonly ChunkRange[] | undefined,
  ): Promise<ChunkRange[]> {
    const { life } = this.settings;
    // As many runs as WANT has room for the gaps between: what else is held is asked for, and is then no news.
    const runs = held.ranges(this.#maxRanges - 1);
    for (const run of runs) await life.race(this.#sendHeld(held, run));
    const missing = missingRanges(runs, chunks);
    return part ? commonRanges(missing, part) : missing;
  }

  /** Bytes of a control frame that the peer takes, unless it has lowered its limit. */
  get #controlBytes(): number {
    return Math.min(this.settings.limits.maxControlBytes, DEFAULT_LIMITS.maxControlBytes);
  }

  get #maxRanges(): number {
    return Math.max(2, maxWantRanges(this.#controlBytes));
  }

  async #sendHeld(held: HeldChunks, run: ChunkRange): Promise<void> {
    const integrity = this.#integrity;
    for (const part of held.runs(run, maxHeldChunks(this.#controlBytes, integrity))) {
      await this.#send(FrameType.HELD, encodeHeld(part, integrity));
    }
  }

  /** Asks, with the first grant. Chunks may come from here on. */
  async ask(asked: Omit<Want, "windowBytes">): Promise<void> {
    this.#asked = true;
    const want = { windowBytes: this.ledger.announce(), ...asked };
    await this.settings.life.race(this.#send(FrameType.WANT, encodeWant(want)));
  }

  /** Grants what there is. */
  grant(): void {
    this.ledger.announce();
    this.#credit.due();
  }

  /** More is durable. */
  durable(): void {
    this.#acks.due();
  }

  /** All is sent: only the receipt is of interest from here on. */
  rest(): void {
    this.#resting = true;
  }

  async #sendCredit(): Promise<void> {
    const { life } = this.settings;
    const { channel } = this.connection;
    const welcome = channel.welcome?.();
    if (welcome) await life.race(welcome).catch(() => {});
    const { announced, finished } = this.ledger;
    await this.#tell(FrameType.CREDIT, encodeCredit({ limit: announced, finished }));
  }

  async #sendAck(): Promise<void> {
    await this.#tell(FrameType.ACK, encodeAck({ durable: this.ledger.durable }));
  }

  /** Of interest to a sender that is still at it. */
  async #tell(type: FrameType, body: Uint8Array): Promise<void> {
    const { life } = this.settings;
    if (!this.#asked || life.error || this.#resting) return;
    await this.#send(type, body).catch((error) => life.fail(error));
  }

  /** The model is whole. @returns whether the peer could be told. */
  async confirm(totals: Totals): Promise<boolean> {
    const told = this.#send(FrameType.RECEIPT, encodeTotals(totals)).then(
      () => true,
      () => false,
    );
    // A peer that reads nothing, and an abort, leave the model whole and nobody told.
    const { life } = this.settings;
    return (await life.race(told).catch(() => withinGrace(told))) ?? false;
  }

  async #send(type: FrameType, body: Uint8Array): Promise<void> {
    this.#writing++;
    const sent = this.connection.send([encodeFrame(type, this.#transfer, FLAG_TO_SENDER, body)]);
    await sent.finally(() => this.#writing--);
  }
}
