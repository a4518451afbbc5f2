import type { Socket } from "node:net";
import { discardPortion } from "./read-portion.js";

/** Payloads from here on are taken; of shorter messages the copy costs less than telling them apart. */
const TAKEN_BYTES = 1024;

/** Of a frame (RFC 6455, 5.2): bits of its first two bytes, and its kinds. */
const FIN_AND_RESERVED = 0xf0;
const FIN = 0x80;
const MASKED = 0x80;
const BINARY = 0x2;
const CLOSE = 0x8;
const MASK_BYTES = 4;

type Portion = (bytes: Buffer) => void;

/**
 * Takes the payloads of binary messages out of what the socket under a WebSocket reads, portion by portion as they come:
 * `ws` keeps a message until it is complete, and then copies it together, into memory of its own. Everything else is still
 * `ws`'s: control frames, text, messages in fragments, short ones, those with a mask that changes bytes, and whatever breaks
 * the protocol.
 */
export class WebSocketPayloads {
  /** The beginning of a frame, until it is whole: 2 bytes say how long it is. */
  readonly #head = Buffer.alloc(14);
  #have = 0;
  /** What is left of the payload, and whether it is taken. */
  #left = 0;
  #taking = false;
  /** A message in fragments has begun, and not ended. */
  #fragmented = false;
  /** Parts that went to `ws`, which may keep them. */
  #passed = 0;
  #closing = false;
  #closed = false;

  private constructor(
    /** Whether the peer has to mask. */
    private readonly masked: boolean,
    private readonly maxBytes: number,
    private readonly take: Portion,
    private readonly pass: Portion,
  ) {}

  /**
   * Steps between a socket and the `ws` that reads it from now on, and has not read anything yet.
   * @param maxBytes Of a message: a longer one is left to `ws`, which refuses it.
   */
  static of(socket: Socket, side: "client" | "server", maxBytes: number, take: Portion): void {
    const readers = socket.listeners("data") as Portion[];
    const pass = (bytes: Buffer): void => {
      for (const reader of readers) reader.call(socket, bytes);
    };
    const payloads = new WebSocketPayloads(side === "server", maxBytes, take, pass);
    socket.on("data", (portion: Buffer) => {
      const passed = payloads.#passed;
      payloads.#portion(portion);
      // What ws has got of it, it may keep.
      if (payloads.#passed === passed) discardPortion(socket, portion);
    });
    for (const reader of readers) socket.off("data", reader);
  }

  #portion(portion: Buffer): void {
    // What follows a close frame is nobody's.
    for (let at = 0; at < portion.length && !this.#closed; ) {
      at += this.#left > 0 ? this.#payload(portion, at) : this.#begin(portion, at);
    }
  }

  #pass(bytes: Buffer): void {
    this.#passed++;
    this.pass(bytes);
  }

  #payload(portion: Buffer, at: number): number {
    const part = portion.subarray(at, at + this.#left);
    this.#left -= part.length;
    if (this.#taking) this.take(part);
    else this.#pass(part);
    this.#closed = this.#closing && this.#left === 0;
    return part.length;
  }

  /** Reads on in a frame's head. */
  #begin(portion: Buffer, at: number): number {
    let taken = 0;
    while (this.#have < this.#need) {
      if (at + taken === portion.length) return taken;
      this.#head[this.#have++] = portion[at + taken++]!;
    }
    const head = this.#head.subarray(0, this.#have);
    const bytes = this.#payloadBytes;
    this.#have = 0;
    this.#left = bytes;
    this.#taking = this.#isTaken(head, bytes);
    if (!this.#taking) this.#passHead(head);
    return taken;
  }

  /** How long the head is, as far as it is known. */
  get #need(): number {
    if (this.#have < 2) return 2;
    const length = this.#head[1]! & 0x7f;
    const mask = this.#head[1]! & MASKED ? MASK_BYTES : 0;
    return 2 + (length === 127 ? 8 : length === 126 ? 2 : 0) + mask;
  }

  get #payloadBytes(): number {
    const length = this.#head[1]! & 0x7f;
    if (length === 126) return this.#head.readUInt16BE(2);
    // Of what is too long to be counted `ws` lets nothing through.
    return length === 127 ? Number(this.#head.readBigUInt64BE(2)) : length;
  }

  #isTaken(head: Buffer, bytes: number): boolean {
    const masked = (head[1]! & MASKED) !== 0;
    return (
      bytes >= TAKEN_BYTES &&
      bytes <= this.maxBytes &&
      !this.#fragmented &&
      (head[0]! & FIN_AND_RESERVED) === FIN &&
      (head[0]! & 0xf) === BINARY &&
      masked === this.masked &&
      (!masked || head.readUInt32BE(head.length - MASK_BYTES) === 0)
    );
  }

  #passHead(head: Buffer): void {
    const kind = head[0]! & 0xf;
    if (kind < CLOSE) this.#fragmented = (head[0]! & FIN) === 0;
    // It is kept by whoever gets it; this one is written over.
    this.pass(Buffer.from(head));
    this.#closing = kind === CLOSE;
    this.#closed = this.#closing && this.#left === 0;
  }
}
