import { ERROR_CODES, type ErrorCode, type Fault, FrameType, quote, TensorwireError } from "@tensorwire/core";

/** What a peer is told of an error: its code, its words, and where it happened. */
export function faultOf(error: TensorwireError): Fault {
  return {
    code: error.code,
    message: error.message,
    retryable: error.retryable,
    ...(error.tensor !== undefined && { tensor: error.tensor.slice(0, 4096) }),
    ...(error.chunk !== undefined && { chunk: error.chunk }),
  };
}

const DOOR_CODES: readonly ErrorCode[] = ["UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "SERVER_BUSY"];

/** The error that a peer's CANCEL or ERROR is on this side. Its text is a stranger's: quoted, never interpreted. */
export function peerError(type: number, fault: Fault): TensorwireError {
  if (type === FrameType.CANCEL) {
    return new TensorwireError("ABORTED", `the peer cancelled the transfer: ${quote(fault.message)}`);
  }
  const door = DOOR_CODES.find((code) => code === fault.code);
  // No failure of the peer's: it has said no, or not yet.
  if (door) return new TensorwireError(door, `the server refuses: ${quote(fault.message)}`);
  const known = (ERROR_CODES as string[]).includes(fault.code);
  return new TensorwireError(
    "PEER_FAILED",
    `the peer failed with ${quote(fault.code)}: ${quote(fault.message)}`,
    {
      peerCode: known ? (fault.code as ErrorCode) : fault.code,
      retryable: fault.retryable ?? false,
    },
  );
}
