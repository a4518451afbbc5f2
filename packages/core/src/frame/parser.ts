import type { Loan } from "../buffer-pool.js";
import { TensorwireError } from "../errors.js";
import { checkLimit, type Limits } from "../limits.js";
import { type ChunkRecord, COUNT_BYTES, dataTableBytes, parseDataTable } from "./data.js";
import {
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  PREAMBLE,
  parseHeader,
  verifyFrame,
} from "./header.js";

/** What the parser asks of, and gives to, its owner. A method that throws ends the parsing with that error. */
export interface FrameHandler {
  /** A frame's header, not yet verified: the place to refuse one that is out of order, before memory is taken for it. */
  admit(header: FrameHeader): void;
  /** A verified control frame. The body is lent for the duration of the call. */
  control(header: FrameHeader, body: Uint8Array): void;
  /**
   * A chunk of a verified record table is coming: lends the memory that its payload goes to. `undefined` where nobody
   * wants it: it is read past, and costs no memory.
   */
  lend(header: FrameHeader, record: ChunkRecord): Loan | undefined;
  /** The payload is in `loan`, which is the handler's again. Its hash is yet to be verified. */
  payload(header: FrameHeader, record: ChunkRecord, loan: Loan): void;
}

enum At {
  Preamble,
  Header,
  Control,
  Count,
  Table,
  Payload,
}

/**
 * Cuts a stream of bytes into frames as they come, whatever their portions, and puts payloads straight into the
 * buffers that the handler lends. Synchronous, and holds at most a header, a control body or a record table of its own.
 * @example
 * const parser = new FrameParser(
 *   {
 *     admit: () => {},
 *     control: ({ type }) => console.log(frameName(type)), // ACK
 *     lend: () => undefined,
 *     payload: (_header, _record, loan) => loan.release(),
 *   },
 *   DEFAULT_LIMITS,
 * );
 * parser.push(PREAMBLE);
 * parser.push(encodeFrame(FrameType.ACK, 1, FLAG_TO_SENDER, encodeAck({ durable: 3 })));
 */
export class FrameParser {
  #at = At.Preamble;
  #header: FrameHeader | undefined;
  #headerBytes = new Uint8Array(HEADER_BYTES);
  /** Collects what is not payload. */
  #small = new Uint8Array(1024);
  #have = 0;
  #need = PREAMBLE.length;
  #records: ChunkRecord[] = [];
  #record = 0;
  #loan: Loan | undefined;
  #failed: { readonly error: unknown } | undefined;
  #closed = false;
  #frames = 0;

  constructor(
    private readonly handler: FrameHandler,
    private readonly limits: Limits,
  ) {}

  /** Frames that have come, each whole and within its checksum. */
  get frames(): number {
    return this.#frames;
  }

  /** Whether the bytes so far end between two frames. */
  get atBoundary(): boolean {
    return this.#at === At.Header && this.#have === 0;
  }

  /** What the stream was in the middle of, for messages. */
  get position(): string {
    if (this.#at === At.Preamble) return "before the first frame";
    if (this.#at === At.Header) return this.#have ? "within a frame's header" : "between two frames";
    return `within a ${frameName(this.#header?.type ?? 0)} frame`;
  }

  /**
   * Takes the next bytes.
   * @throws TensorwireError for bytes that are no frames, and whatever the handler throws; further pushes throw it again.
   */
  push(portion: Uint8Array): void {
    if (this.#failed) throw this.#failed.error;
    try {
      // The handler may close the parser: what follows in the portion is then nobody's.
      for (let at = 0; at < portion.length && !this.#closed; ) {
        at += this.#at === At.Payload ? this.#fill(portion, at) : this.#collect(portion, at);
      }
    } catch (error) {
      this.#failed = { error };
      this.close();
      throw error;
    }
  }

  /** Gives back the loan of a payload that will not be completed. Bytes that come later are read past. */
  close(): void {
    this.#closed = true;
    this.skip();
  }

  /** Gives back the loan of the payload that is coming, which nobody wants any more: the rest of it is read past. */
  skip(): void {
    const loan = this.#loan;
    this.#loan = undefined;
    loan?.release();
  }

  #collect(portion: Uint8Array, at: number): number {
    const take = Math.min(this.#need - this.#have, portion.length - at);
    this.#grow(this.#have + take);
    this.#small.set(portion.subarray(at, at + take), this.#have);
    this.#have += take;
    if (this.#have === this.#need) this.#collected(this.#small.subarray(0, this.#need));
    return take;
  }

  // Grows with the bytes that come, not with the length that was announced.
  #grow(bytes: number): void {
    if (bytes <= this.#small.length) return;
    const grown = new Uint8Array(Math.min(this.#need, Math.max(bytes, this.#small.length * 2)));
    grown.set(this.#small.subarray(0, this.#have));
    this.#small = grown;
  }

  #await(at: At, need: number): void {
    this.#at = at;
    this.#have = 0;
    this.#need = need;
  }

  #collected(bytes: Uint8Array): void {
    switch (this.#at) {
      case At.Preamble:
        if (bytes.some((byte, i) => byte !== PREAMBLE[i])) {
          throw new TensorwireError("PROTOCOL", "the stream does not begin as a Tensorwire stream does");
        }
        return this.#await(At.Header, HEADER_BYTES);
      case At.Header:
        return this.#begin(bytes);
      case At.Control:
        return this.#control(bytes);
      case At.Count: {
        const { bodyBytes } = this.#header!;
        const count = new DataView(bytes.buffer, bytes.byteOffset, COUNT_BYTES).getUint32(0, true);
        this.#need = dataTableBytes(count, bodyBytes, this.limits);
        this.#at = At.Table;
        return;
      }
      case At.Table:
        verifyFrame(this.#headerBytes, this.#header!, bytes);
        this.#records = parseDataTable(bytes, this.#header!.bodyBytes);
        this.#record = -1;
        return this.#nextPayload();
    }
  }

  #begin(bytes: Uint8Array): void {
    const header = parseHeader(bytes);
    this.#headerBytes.set(bytes);
    this.#header = header;
    const { type, bodyBytes } = header;
    if (type === FrameType.INDEX) return this.#conclude(header);
    if (type === FrameType.DATA) {
      checkLimit(this.limits, "maxFrameBytes", bodyBytes, "the body of a DATA frame");
      if (bodyBytes < COUNT_BYTES)
        throw new TensorwireError("PROTOCOL", `a DATA frame of ${bodyBytes} bytes`);
    } else {
      const limit = type === FrameType.MANIFEST ? "maxManifestBytes" : "maxControlBytes";
      checkLimit(this.limits, limit, bodyBytes, `the body of a ${frameName(type)} frame`);
    }
    this.handler.admit(header);
    if (type === FrameType.DATA) return this.#await(At.Count, COUNT_BYTES);
    this.#await(At.Control, bodyBytes);
    if (bodyBytes === 0) this.#control(bytes.subarray(0, 0));
  }

  /** What follows END in an artifact is for readers by position: here the frames are over, and the rest is read past. */
  #conclude(header: FrameHeader): void {
    this.handler.admit(header);
    this.#await(At.Header, HEADER_BYTES);
    this.close();
  }

  #control(body: Uint8Array): void {
    const header = this.#header!;
    verifyFrame(this.#headerBytes, header, body);
    this.#await(At.Header, HEADER_BYTES);
    this.#frames++;
    this.handler.control(header, body);
    // A large manifest's memory is not kept for the small frames that follow.
    if (this.#small.length > 64 * 1024) this.#small = new Uint8Array(1024);
  }

  // A loop: a table may hold thousands of records without a byte of payload.
  #nextPayload(): void {
    const header = this.#header!;
    while (++this.#record < this.#records.length) {
      if (this.#closed) return;
      const record = this.#records[this.#record]!;
      this.#await(At.Payload, record.packedBytes);
      this.#loan = this.handler.lend(header, record);
      if (record.packedBytes > 0) return;
      this.#deliver();
    }
    this.#records = [];
    this.#frames++;
    this.#await(At.Header, HEADER_BYTES);
  }

  #fill(portion: Uint8Array, at: number): number {
    const take = Math.min(this.#need - this.#have, portion.length - at);
    this.#loan?.bytes.set(portion.subarray(at, at + take), this.#have);
    this.#have += take;
    if (this.#have === this.#need) {
      this.#deliver();
      this.#nextPayload();
    }
    return take;
  }

  #deliver(): void {
    const loan = this.#loan;
    this.#loan = undefined;
    if (loan) this.handler.payload(this.#header!, this.#records[this.#record]!, loan);
  }
}
