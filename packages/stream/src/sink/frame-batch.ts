import {
  BATCH_BYTES,
  BATCH_RECORDS,
  type ChunkRecord,
  COUNT_BYTES,
  encodeDataHead,
  HEADER_BYTES,
  parseDataTable,
  RECORD_BYTES,
} from "@tensorwire/core";

const NOTHING = new Uint8Array(0);

/** A batch at some moment: later ones only add to its memory. */
interface Moment {
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly records: readonly ChunkRecord[];
  readonly count: number;
}

/** Small chunks that are collected for a frame of an artifact. */
export class FrameBatch {
  // Taken with the first small chunk: a round has many sinks, and many a model no small chunks.
  #bytes: Uint8Array = NOTHING;
  /** Of the frame before this: it may be on its way, and a checkpoint may still ask for it. */
  #before: Uint8Array = NOTHING;
  #length = 0;
  #records: ChunkRecord[] = [];

  constructor(private readonly transfer: number) {}

  /** Chunks that are collected. */
  get count(): number {
    return this.#records.length;
  }

  clear(): void {
    this.#length = 0;
    this.#records = [];
  }

  fits(payload: Uint8Array): boolean {
    return this.#length + payload.length <= BATCH_BYTES && this.#records.length < BATCH_RECORDS;
  }

  add(record: ChunkRecord, payload: Uint8Array): void {
    if (this.#bytes.length === 0) this.#bytes = new Uint8Array(BATCH_BYTES);
    this.#bytes.set(payload, this.#length);
    this.#length += payload.length;
    this.#records.push(record);
  }

  /** What is collected; its memory is used again for the frame after the next. */
  take(): { records: readonly ChunkRecord[]; payloads: Uint8Array } {
    const { bytes, length, records } = this.moment();
    [this.#bytes, this.#before] = [this.#before, this.#bytes];
    this.#length = 0;
    this.#records = [];
    return { records, payloads: bytes.subarray(0, length) };
  }

  moment(): Moment {
    return { bytes: this.#bytes, length: this.#length, records: this.#records, count: this.#records.length };
  }

  /** What was collected at a moment, not long ago, as a frame. */
  frameAt({ bytes, length, records, count }: Moment): Uint8Array {
    if (count === 0) return new Uint8Array(0);
    return Buffer.concat([encodeDataHead(this.transfer, records.slice(0, count)), bytes.subarray(0, length)]);
  }

  /** Collects again what `frameAt` gave. @throws TensorwireError `PROTOCOL` where it is no such frame. */
  restore(frame: Uint8Array): void {
    if (frame.length === 0) return;
    const body = frame.subarray(HEADER_BYTES);
    const count = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
    let at = COUNT_BYTES + count * RECORD_BYTES;
    for (const record of parseDataTable(body.subarray(0, at), body.length)) {
      this.add(record, body.subarray(at, at + record.packedBytes));
      at += record.packedBytes;
    }
  }
}
