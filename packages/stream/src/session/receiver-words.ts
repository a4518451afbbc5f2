import {
  FrameType,
  frameName,
  type Integrity,
  parseAck,
  parseCredit,
  parseHeld,
  parseTotals,
  parseWant,
  TensorwireError,
  type Totals,
  type Want,
} from "@tensorwire/core";
import type { CreditGate } from "./credit.js";
import { deferred } from "./deferred.js";
import { checkDivided, type HeldChunks } from "./held-chunks.js";
import type { SenderSettings } from "./sender-settings.js";

/**
 * What the receiving end tells the sender, on one connection: what it has and wants, then credit and what is durable, then the
 * receipt. What it must not say, or not yet, is thrown.
 */
export class ReceiverWords {
  readonly #want = deferred<Want>();
  readonly #receipt = deferred<Totals>();
  /** Where the next HELD may begin. */
  #heldEnd = 0;
  #wanted = false;
  #finishedBytes = 0;
  #durable = 0;

  /**
   * @param held Takes what the peer says that it has.
   * @param gate Takes what it grants.
   */
  constructor(
    private readonly settings: Pick<SenderSettings, "plan" | "version" | "progress" | "trace">,
    private readonly integrity: Integrity,
    private readonly held: HeldChunks,
    private readonly gate: CreditGate,
  ) {}

  get want(): Promise<Want> {
    return this.#want.promise;
  }

  get receipt(): Promise<Totals> {
    return this.#receipt.promise;
  }

  /** Whether WANT is here. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** Source bytes that it has finished with. */
  get finishedBytes(): number {
    return this.#finishedBytes;
  }

  /** Source bytes that it has made durable. */
  get durable(): number {
    return this.#durable;
  }

  /** @param ended The sender has said END, so that there may be a receipt. */
  admit(type: FrameType, ended: boolean): void {
    if (!this.#expects(type, ended))
      throw new TensorwireError("PROTOCOL", `${frameName(type)} out of its order`);
  }

  #expects(type: FrameType, ended: boolean): boolean {
    switch (type) {
      case FrameType.HELD:
      case FrameType.WANT:
        return !this.#wanted;
      case FrameType.CREDIT:
      case FrameType.ACK:
        return this.#wanted;
      case FrameType.RECEIPT:
        return ended;
      default:
        return type === FrameType.ERROR || type === FrameType.CANCEL;
    }
  }

  take(type: FrameType, body: Uint8Array): void {
    switch (type) {
      case FrameType.HELD:
        return this.#takeHeld(body);
      case FrameType.WANT:
        return this.#takeWant(body);
      case FrameType.CREDIT:
        return this.#takeCredit(body);
      case FrameType.ACK:
        return this.#takeAck(body);
      default:
        this.#receipt.resolve(parseTotals("RECEIPT", body, this.integrity));
    }
  }

  #takeHeld(body: Uint8Array): void {
    const held = parseHeld(body, this.integrity, this.#heldEnd, this.settings.plan.chunks);
    this.#heldEnd = held.first + held.chunks.length;
    this.held.addRun(held);
  }

  #takeWant(body: Uint8Array): void {
    const { plan, version } = this.settings;
    const want = parseWant(body, plan.chunks);
    checkDivided(this.held.ranges(), want, plan.chunks);
    if (want.sameVersion && version === undefined) {
      throw new TensorwireError("PROTOCOL", "WANT speaks of the same version where none was named");
    }
    if (want.windowBytes < plan.maxChunkBytes) {
      throw new TensorwireError("PROTOCOL", `the peer grants ${want.windowBytes} bytes, less than one chunk`);
    }
    this.#wanted = true;
    // At once: more credit may follow in the same portion.
    this.gate.grant(want.windowBytes);
    this.#want.resolve(want);
  }

  #takeCredit(body: Uint8Array): void {
    const { progress } = this.settings;
    const { limit, finished } = parseCredit(body);
    this.#checkSent(finished, "has finished with");
    this.gate.grant(limit);
    this.#finishedBytes = finished;
    progress.acknowledgedBytes = this.held.bytes + finished;
    progress.tick();
  }

  #takeAck(body: Uint8Array): void {
    const { progress, trace } = this.settings;
    const { durable } = parseAck(body);
    this.#checkSent(durable, "has made durable");
    if (durable < this.#durable) {
      throw new TensorwireError("PROTOCOL", `ACK went back from ${this.#durable} to ${durable} bytes`);
    }
    this.#durable = durable;
    progress.durableBytes = this.held.bytes + durable;
    trace.checkpoint(progress.durableBytes);
    progress.tick();
  }

  #checkSent(bytes: number, deed: string): void {
    if (bytes <= this.gate.taken) return;
    const message = `the peer ${deed} ${bytes} bytes where ${this.gate.taken} were sent`;
    throw new TensorwireError("PROTOCOL", message);
  }
}
