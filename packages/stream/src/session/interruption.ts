import type { ErrorCode, TensorwireError } from "@tensorwire/core";

/** Where a transfer that fails so has done nothing wrong: what has arrived is good, and a later attempt goes on from it. */
const INTERRUPTIONS: ReadonlySet<ErrorCode> = new Set([
  "CHANNEL_OPEN",
  "CHANNEL_CLOSED",
  "IDLE_TIMEOUT",
  "STALL_TIMEOUT",
  "SERVER_BUSY",
  "ABORTED",
  // Bytes that changed on the way: every chunk that was taken was verified by itself.
  "FRAME_CORRUPT",
  "CHUNK_CORRUPT",
  "TARGET_FULL",
]);

/** Whether the error is an interruption, and not a fault of what came: of the peer's failures those that it calls retryable. */
export function isInterruption({ code, retryable }: TensorwireError): boolean {
  return code === "PEER_FAILED" ? retryable : INTERRUPTIONS.has(code);
}
