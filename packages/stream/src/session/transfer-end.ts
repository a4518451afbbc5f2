import type { ChunkRecord, FrameHeader, Loan, SourceState, TensorwireError } from "@tensorwire/core";

/**
 * One end of one transfer, as its connection sees it. What `admit`, `control` and `lend` throw is a fault of the peer's
 * bytes, and ends the connection.
 */
export interface TransferEnd {
  /** A frame of this type is coming, not yet verified. */
  admit(header: FrameHeader): void;
  control(header: FrameHeader, body: Uint8Array): void;
  /** Memory for the payload that is coming; `undefined` reads it past. */
  lend(record: ChunkRecord): Loan | undefined;
  payload(record: ChunkRecord, loan: Loan): void;
  /** The connection, or the peer's end of the transfer, failed. */
  fail(error: TensorwireError): void;
  /** Resolves when more bytes are welcome, for channels without credit; `undefined` when they are now. */
  brake?(): Promise<void> | undefined;
}

/** The receiving end: it learns its transfer from the manifest. */
export interface ReceivingEnd extends TransferEnd {
  /**
   * Takes the manifest's bytes, verified but not validated, and what was said of the source before. Payloads may follow
   * within the same call of the channel.
   */
  begin(transfer: number, manifest: Uint8Array, source: SourceState): void;
}
