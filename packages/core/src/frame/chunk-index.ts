import type { ChunkPlan } from "../chunk-plan.js";
import { TensorwireError } from "../errors.js";
import { type ChunkRecord, checkPacking, COUNT_BYTES, RECORD_BYTES } from "./data.js";
import { FrameType, HEADER_BYTES, sealHeader } from "./header.js";
import { type Integrity, SHA256_BYTES } from "./held.js";

/** Bytes of a chunk's entry in INDEX. */
export const INDEX_ENTRY_BYTES = 28;

const FIRST_ENTRIES = 64;
const TWO_32 = 2 ** 32;

/** What INDEX says of a chunk: its record, but for what follows from the plan, and where its payload lies in the file. */
export interface IndexEntry
  extends Pick<ChunkRecord, "codec" | "packing" | "payloadBytes" | "packedBytes" | "hash"> {
  /** Where its payload begins in the file. */
  readonly position: number;
}

/** Bytes of the body of INDEX. */
export function indexBytes({ chunks, tensors }: ChunkPlan, integrity: Integrity): number {
  return chunks * INDEX_ENTRY_BYTES + (integrity === "sha256" ? tensors * SHA256_BYTES : 0);
}

/** Part of a file, from one position to before another. */
export interface FilePart {
  /** Its first byte. */
  readonly from: number;
  /** The byte behind its last. */
  readonly to: number;
}

/**
 * Where each chunk of a plan lies in an artifact: the body of INDEX, read and written in place. It grows with the entries
 * that are added, in the plan's order.
 * @example
 * const plan = new ChunkPlan([{ name: "x", dtype: "F32", shape: [3] }], 32768);
 * const index = new ChunkIndex(plan);
 * index.add({ codec: 0, packing: 0, payloadBytes: 12, packedBytes: 12, hash: 1n, position: 300 });
 * console.log(index.bytes.length === indexBytes(plan, "xxh64"), encodeIndexHead(1, index.bytes).length); // true 24
 */
export class ChunkIndex {
  #bytes: Uint8Array;
  #view: DataView;
  #entries = 0;

  constructor(
    private readonly plan: ChunkPlan,
    private readonly integrity: Integrity = "xxh64",
  ) {
    this.#bytes = new Uint8Array(this.#room(FIRST_ENTRIES));
    this.#view = new DataView(this.#bytes.buffer);
  }

  /**
   * @param body The body of an INDEX frame, verified, and kept.
   * @param payloads Where payloads can lie.
   * @throws TensorwireError `PROTOCOL` where it is not such an index: another length, payloads that overlap, or lie elsewhere.
   */
  static parse(body: Uint8Array, plan: ChunkPlan, integrity: Integrity, payloads: FilePart): ChunkIndex {
    const bytes = indexBytes(plan, integrity);
    if (body.length !== bytes) {
      throw new TensorwireError(
        "PROTOCOL",
        `INDEX: a body of ${body.length} bytes, where ${plan.chunks} chunks take ${bytes}`,
      );
    }
    const index = new ChunkIndex(plan, integrity);
    index.#bytes = body;
    index.#view = new DataView(body.buffer, body.byteOffset, body.length);
    index.#entries = plan.chunks;
    index.#check(payloads);
    return index;
  }

  /** They stand in the order of the plan, as their frames do. */
  #check({ from, to }: FilePart): void {
    let end = from + HEADER_BYTES + COUNT_BYTES + RECORD_BYTES;
    for (let ordinal = 0; ordinal < this.#entries; ordinal++) {
      const { position, packedBytes, ...record } = this.entry(ordinal);
      checkPacking({ ...record, packedBytes });
      if (position < end || position + packedBytes > to) {
        const where = `bytes ${position} to ${position + packedBytes}`;
        const message = `INDEX: chunk ${ordinal} of the plan at ${where}, where it can lie from ${end} to ${to}`;
        throw new TensorwireError("PROTOCOL", message);
      }
      end = position + packedBytes;
    }
  }

  /** Entries so far. */
  get entries(): number {
    return this.#entries;
  }

  /** The body of INDEX, once every chunk has its entry. */
  get bytes(): Uint8Array {
    if (this.#entries === this.plan.chunks) {
      this.#grow(this.plan.chunks);
      return this.#bytes;
    }
    throw new TensorwireError("INTERNAL", `an index of ${this.#entries} of ${this.plan.chunks} chunks`);
  }

  /** The next chunk of the plan. */
  add({ position, codec, packing, payloadBytes, packedBytes, hash }: IndexEntry): void {
    const ordinal = this.#entries++;
    if (ordinal >= this.plan.chunks) {
      throw new TensorwireError("INTERNAL", `an entry more than the plan's ${this.plan.chunks} chunks`);
    }
    this.#grow(this.#entries);
    const at = ordinal * INDEX_ENTRY_BYTES;
    const view = this.#view;
    view.setUint32(at, position % TWO_32, true);
    view.setUint32(at + 4, Math.floor(position / TWO_32), true);
    view.setUint16(at + 8, codec, true);
    view.setUint16(at + 10, packing, true);
    view.setUint32(at + 12, payloadBytes, true);
    view.setUint32(at + 16, packedBytes, true);
    view.setBigUint64(at + 20, hash, true);
  }

  /** What is recorded of the chunk at `ordinal`. */
  entry(ordinal: number): IndexEntry {
    const at = this.#at(ordinal);
    const view = this.#view;
    return {
      position: this.position(ordinal),
      codec: view.getUint16(at + 8, true),
      packing: view.getUint16(at + 10, true),
      payloadBytes: view.getUint32(at + 12, true),
      packedBytes: view.getUint32(at + 16, true),
      hash: view.getBigUint64(at + 20, true),
    };
  }

  /** Where the payload of the chunk at `ordinal` begins in the file. */
  position(ordinal: number): number {
    const at = this.#at(ordinal);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * TWO_32;
  }

  /** How long the payload of the chunk at `ordinal` is in the file. */
  packedBytes(ordinal: number): number {
    return this.#view.getUint32(this.#at(ordinal) + 16, true);
  }

  /** With integrity `sha256`: what the transfer digest has of tensor `i`. */
  setTensor(i: number, sha256: Uint8Array): void {
    this.bytes.set(sha256, this.#tensorAt(i));
  }

  /** SHA-256 of the tensor, with integrity `sha256`. */
  tensor(i: number): Uint8Array {
    const at = this.#tensorAt(i);
    return this.bytes.subarray(at, at + SHA256_BYTES);
  }

  #at(ordinal: number): number {
    if (Number.isSafeInteger(ordinal) && ordinal >= 0 && ordinal < this.#entries)
      return ordinal * INDEX_ENTRY_BYTES;
    throw new TensorwireError("INTERNAL", `chunk ${ordinal} of an index of ${this.#entries}`);
  }

  #tensorAt(i: number): number {
    return this.plan.chunks * INDEX_ENTRY_BYTES + i * SHA256_BYTES;
  }

  /** Bytes to have for so many entries, and those of tensors when all are there. */
  #room(entries: number): number {
    if (entries >= this.plan.chunks) return indexBytes(this.plan, this.integrity);
    return entries * INDEX_ENTRY_BYTES;
  }

  #grow(entries: number): void {
    if (this.#bytes.length >= this.#room(entries)) return;
    const grown = new Uint8Array(this.#room(entries < this.plan.chunks ? 2 * entries : entries));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** The header of an INDEX frame; its body follows. */
export function encodeIndexHead(transfer: number, body: Uint8Array): Uint8Array {
  const head = new Uint8Array(HEADER_BYTES);
  sealHeader(head, { type: FrameType.INDEX, transfer, flags: 0, bodyBytes: body.length }, body);
  return head;
}
