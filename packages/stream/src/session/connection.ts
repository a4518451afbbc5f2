import { setImmediate } from "node:timers/promises";
import {
  asTensorwireError,
  type Channel,
  type ChannelReceiver,
  type ChunkRecord,
  encodeFrame,
  encodeJson,
  type Fault,
  FaultSchema,
  FLAG_TO_SENDER,
  type FrameHandler,
  type FrameHeader,
  FrameParser,
  FrameType,
  frameName,
  type Hello,
  type Limits,
  type Loan,
  PREAMBLE,
  parseJson,
  TensorwireError,
} from "@tensorwire/core";
import { ConnectionTrace } from "../diagnostics/connection-trace.js";
import type { ServedModel } from "../diagnostics/events.js";
import { Announcements } from "./announcements.js";
import { deferred } from "./deferred.js";
import { faultOf, peerError } from "./fault.js";
import { checkAddress } from "./frame-address.js";
import { FrameWriter } from "./frame-writer.js";
import { withinGrace } from "./grace.js";
import { Greeting } from "./greeting.js";
import { IdleWatch } from "./idle-watch.js";
import type { ReceivingEnd, TransferEnd } from "./transfer-end.js";
import { TransferEnds } from "./transfer-ends.js";

export interface ConnectionOptions {
  readonly hello: Omit<Hello, "versions">;
  readonly limits: Limits;
  /** Takes what the peer need not know out of the words that it is told. */
  readonly discreet?: ((message: string) => string) | undefined;
  /** What a server's peer came for: told to whoever watches. */
  readonly served?: ServedModel | undefined;
  /** How long a peer may be silent, on a channel with both directions. 0: for ever. */
  readonly idleTimeoutMs: number;
}

/**
 * A channel with frames on it: HELLO both ways, then any number of transfers in both directions. Every frame is
 * handed to its transfer's end, told by the transfer id and the direction flag.
 */
export class Connection implements ChannelReceiver, FrameHandler {
  readonly #parser: FrameParser;
  readonly #writer: FrameWriter;
  readonly #idle: IdleWatch;
  readonly #trace: ConnectionTrace;
  readonly #ends: TransferEnds;
  readonly #greeting: Greeting;
  readonly #announcements = new Announcements();
  /** Whose payload the parser fills. */
  #filling: TransferEnd | undefined;
  /** This side has written something: the preamble is out. */
  #begun = false;
  #failure: TensorwireError | undefined;
  #closing: Promise<void> | undefined;
  /** Nothing comes over the channel any more. */
  readonly #ended = deferred<void>();

  constructor(
    readonly channel: Channel,
    readonly options: ConnectionOptions,
  ) {
    this.#parser = new FrameParser(this, options.limits);
    this.#greeting = new Greeting(options.hello);
    this.#ends = new TransferEnds(options.limits);
    this.#writer = new FrameWriter(channel);
    this.#trace = new ConnectionTrace(channel);
    const idleTimeoutMs = channel.direction === "both" ? options.idleTimeoutMs : 0;
    this.#idle = new IdleWatch(this.#parser, this.#writer, this, idleTimeoutMs);
    channel.open(this);
    if (channel.direction !== "receive") this.#greet();
  }

  #greet(): void {
    this.#begun = true;
    this.send(this.#greeting.words(this.#idle.idleTimeoutMs)).catch((error) =>
      this.close(asTensorwireError(error, "CHANNEL_CLOSED")),
    );
  }

  /** What it has failed with: nothing but last words goes over the channel any more. */
  get failure(): TensorwireError | undefined {
    return this.#failure;
  }

  /**
   * Of one that has failed: resolves when there is no channel any more, as far as that can be waited for, and never at once. Who
   * begins one transfer after the other, whatever became of the last, leaves the process its turns so, and sees the channel's end.
   */
  async over(): Promise<void> {
    await withinGrace(this.#closing ?? this.#ended.promise);
    await setImmediate();
  }

  /** The peer's HELLO. */
  get hello(): Promise<Hello> {
    return this.#greeting.hello;
  }

  /** Resolves when the peer has announced a model. */
  get announced(): Promise<void> {
    return this.#announcements.first;
  }

  /** Writes whole frames. Resolves when their bytes may be reused. */
  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#failure) throw this.#failure;
    try {
      await this.#writer.write(parts);
    } catch (error) {
      throw this.#failure ?? asTensorwireError(error, "CHANNEL_CLOSED");
    }
  }

  /** Begins a transfer from here. */
  openSending(end: TransferEnd): number {
    if (this.#failure) throw this.#failure;
    return this.#ends.open(end);
  }

  /** Gives `end` the next transfer that the peer begins. */
  receive(end: ReceivingEnd): void {
    if (this.#failure) throw this.#failure;
    this.#ends.receive(end);
  }

  /** Forgets a transfer that is over. */
  release(end: TransferEnd): void {
    if (this.#filling === end) {
      this.#filling = undefined;
      this.#parser.skip();
    }
    this.#ends.release(end);
  }

  /** Tells the peer why a transfer ends, as far as the channel still carries words. */
  async sendFault(type: "ERROR" | "CANCEL", transfer: number, flags: number, fault: Fault): Promise<void> {
    if (this.#failure || this.channel.direction === "receive") return;
    const { discreet = (words: string) => words } = this.options;
    const message = discreet(fault.message).slice(0, 4096);
    const body = encodeJson({ ...fault, message });
    // What came early can be at fault before this side has said HELLO.
    const preamble = this.#begun ? [] : [PREAMBLE];
    this.#begun = true;
    const told = this.send([...preamble, encodeFrame(FrameType[type], transfer, flags, body)]).catch(
      () => {},
    );
    this.channel.hurry?.();
    await told;
  }

  /** Ends the channel: orderly, or at once with the error that everyone who waits gets. */
  close(error?: TensorwireError): Promise<void> {
    this.#closing ??= error ? this.channel.close(error) : this.#idle.closing(this.channel);
    if (!error) this.#trace.close();
    this.#fail(error ?? new TensorwireError("CHANNEL_CLOSED", "the connection was closed on this side"));
    return this.#closing;
  }

  /** The connection itself cannot go on, its peer's bytes are at fault or none come: the peer is told, and the channel ends. */
  refuse(error: TensorwireError): Promise<void> {
    const type = error.code === "ABORTED" ? "CANCEL" : "ERROR";
    const told = this.sendFault(type, 0, 0, faultOf(error));
    this.#fail(error);
    // A peer that reads nothing would keep the words, and the channel, for ever.
    this.#closing ??= withinGrace(told).then(() => this.channel.close(error));
    return this.#closing;
  }

  /** Over a socket that only one end shares nothing comes; nor does it before the other end uses its channel. */
  get silence(): string | undefined {
    if (this.#greeting.heard || this.channel.kind !== "shared") return undefined;
    return "nothing at all has come: is this WebSocket shared at the other end too (shareSocket), and does it receive there, or send?";
  }

  /**
   * Somebody here waits for the peer. A connection that was opened for one transfer is there for nothing else; another one
   * has times of rest.
   */
  get awaited(): boolean {
    if (!this.#greeting.heard || this.options.hello.role !== "any") return true;
    return this.#ends.count > 0;
  }

  // --- ChannelReceiver

  bytes(portion: Uint8Array): void | Promise<void> {
    if (this.#failure) return;
    try {
      this.#parser.push(portion);
    } catch (error) {
      void this.refuse(asTensorwireError(error, "INTERNAL"));
      return;
    }
    return this.#ends.brake();
  }

  end(error?: Error): void {
    this.#ended.resolve();
    const position = this.#parser.position;
    if (error)
      return this.#fail(asTensorwireError(error, "CHANNEL_CLOSED", `the channel failed ${position}`));
    this.#fail(new TensorwireError("CHANNEL_CLOSED", `the peer went away ${position}`));
  }

  // --- FrameHandler

  admit(header: FrameHeader): void {
    checkAddress(header);
    if (header.type === FrameType.HELLO) {
      if (this.#greeting.heard) throw new TensorwireError("PROTOCOL", "a second HELLO");
      return;
    }
    // Who is not let in hears why, and no HELLO.
    if (!this.#greeting.heard && header.type === FrameType.ERROR && header.transfer === 0) return;
    if (!this.#greeting.heard)
      throw new TensorwireError("PROTOCOL", `${frameName(header.type)} before HELLO`);
    if (header.type === FrameType.PING) return;
    if (header.type === FrameType.MANIFEST || header.type === FrameType.SOURCE) {
      this.#announcements.check(header);
      if (header.type === FrameType.MANIFEST) this.#ends.admit(header.bodyBytes);
      return;
    }
    if (header.type === FrameType.INDEX && this.channel.direction === "both")
      throw new TensorwireError("PROTOCOL", "INDEX, which only an artifact has");
    const end = this.#ends.of(header);
    if (end) return end.admit(header);
    // The rest of a transfer that failed here is read past; what nobody has asked for yet would be lost quietly.
    const { type, transfer } = header;
    if (type !== FrameType.DATA && type !== FrameType.END) return;
    if (transfer > this.#announcements.latest || this.#ends.waits(transfer)) {
      throw new TensorwireError(
        "PROTOCOL",
        `${frameName(type)} for transfer ${transfer}, which nobody asked for`,
      );
    }
  }

  control(header: FrameHeader, body: Uint8Array): void {
    switch (header.type) {
      case FrameType.HELLO:
        return this.#welcome(body);
      case FrameType.PING:
        return;
      case FrameType.SOURCE:
        return this.#announcements.source(header.transfer, body);
      case FrameType.MANIFEST:
        return this.#ends.announced(this.#announcements.manifest(header.transfer, body));
      case FrameType.CANCEL:
      case FrameType.ERROR: {
        const error = peerError(header.type, parseJson(header.type, FaultSchema, body));
        // The peer's last words: it waits for nothing, and one that does not close the channel must not keep it.
        if (header.transfer === 0) return void this.close(error);
        if (!(header.flags & FLAG_TO_SENDER)) this.#withdraw(header.transfer);
        return this.#ends.of(header)?.fail(error);
      }
      default:
        return this.#ends.of(header)?.control(header, body);
    }
  }

  /** The peer gave up a transfer that nobody here has begun. */
  #withdraw(transfer: number): void {
    this.#ends.withdraw(transfer);
    this.#announcements.withdraw(transfer);
  }

  lend(header: FrameHeader, record: ChunkRecord): Loan | undefined {
    this.#filling = this.#ends.of(header);
    return this.#filling?.lend(record);
  }

  payload(_header: FrameHeader, record: ChunkRecord, loan: Loan): void {
    this.#filling!.payload(record, loan);
  }

  #welcome(body: Uint8Array): void {
    const { idleTimeoutMs } = this.#greeting.take(body);
    this.#idle.heed(this.channel.direction === "both" ? idleTimeoutMs : 0);
  }

  #fail(error: TensorwireError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#trace.close(error);
    this.#idle.stop();
    this.#parser.close();
    this.#greeting.fail(error);
    this.#announcements.fail(error);
    this.#ends.fail(error);
  }
}
