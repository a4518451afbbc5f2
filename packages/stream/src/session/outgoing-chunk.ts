import { type Chunk, type ChunkRecord, type Loan, Packing } from "@tensorwire/core";
import type { EncodedRecord } from "../source/source.js";

/** What is known of a chunk besides its payload. */
export interface Findings {
  /** Finite elements that the codec clamped. */
  readonly clamped: number;
  /** Its tensor's codec would have saved nothing. */
  readonly declined: boolean;
  /** SHA-256 of the unpacked payload, with that integrity. */
  readonly sha256?: Uint8Array | undefined;
}

export const NOTHING_FOUND: Findings = { clamped: 0, declined: false };

/** A chunk ready to send. Whoever holds it gives the loan back. */
export interface OutgoingChunk extends Findings {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  /** What follows the record: the payload, packed or as it is. */
  readonly bytes: Uint8Array;
  /** Of the bytes. */
  readonly loan: Loan;
}

/** The chunk with its whole record; the payload, or its packing, begins where the loan does. */
export function outgoing(
  chunk: Chunk,
  loan: Loan,
  encoded: Omit<EncodedRecord, "sha256">,
  { clamped, declined, sha256 }: Findings = NOTHING_FOUND,
): OutgoingChunk {
  const record: ChunkRecord = {
    tensor: chunk.tensor,
    firstElement: chunk.first,
    elements: chunk.elements,
    packing: Packing.RAW,
    packedBytes: encoded.payloadBytes,
    ...encoded,
  };
  // A view costs what a promise costs: small tensors fill their loans.
  const { packedBytes } = record;
  const bytes = loan.bytes.length === packedBytes ? loan.bytes : loan.bytes.subarray(0, packedBytes);
  return { chunk, record, bytes, loan, clamped, declined, sha256 };
}
