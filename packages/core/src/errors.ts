/** Whether trying the same thing again, unchanged, can succeed. Each code is described in `docs/errors.md`. */
const RETRYABLE = {
  /** An argument or option that cannot be used. */
  INVALID_ARGUMENT: false,
  /** A source that is not what it says: a malformed, truncated or oversized file. */
  SOURCE_INVALID: false,
  /** A yielded tensor that disagrees with the declared infos, a source that ended early, models or residuals that do not fit. */
  SOURCE_MISMATCH: false,
  /** A delta that is of another base than the one that it is applied to. */
  BASE_MISMATCH: false,
  /** A NaN, an infinity or a value that the codec cannot carry, where those are to be refused. */
  VALUE_NOT_FINITE: false,
  /** Reading the source failed. */
  SOURCE_READ: true,
  /** The source changed while it was being sent. */
  SOURCE_CHANGED: true,
  /** The destination exists, and overwriting was not asked for. */
  TARGET_EXISTS: false,
  /** Another receiver is writing the destination. */
  TARGET_BUSY: true,
  /** The destination has no room for the model. */
  TARGET_FULL: true,
  /** The destination cannot be written. */
  TARGET_WRITE: false,
  /** The sink's consumer stopped or threw. */
  SINK_CLOSED: false,
  /** A whole tensor was asked for that no buffer can hold. */
  TENSOR_TOO_LARGE: false,
  /** Bytes that are not a frame of this protocol, or a frame out of its order. */
  PROTOCOL: false,
  /** A frame whose checksum does not match. */
  FRAME_CORRUPT: true,
  /** A chunk whose payload does not match its hash. */
  CHUNK_CORRUPT: true,
  /** All chunks arrived, and the digests of the two ends differ. */
  DIGEST_MISMATCH: true,
  /** The transfer is not hashed as this side demands. */
  INTEGRITY_REQUIRED: false,
  /** A manifest that contradicts itself. */
  MANIFEST_INVALID: false,
  /** A length, count or size beyond a limit. */
  LIMIT_EXCEEDED: false,
  /** More source bytes than were granted. */
  CREDIT_EXCEEDED: false,
  /** The peer speaks no common version. */
  VERSION_UNSUPPORTED: false,
  /** A codec that this side, or the other side, lacks. */
  CODEC_UNSUPPORTED: false,
  /** A payload that its codec cannot have made. */
  PAYLOAD_INVALID: false,
  /** Both ends want to send, or both to receive. */
  ROLE_CONFLICT: false,
  /** The channel could not be opened. */
  CHANNEL_OPEN: true,
  /** The channel closed before the transfer was complete. */
  CHANNEL_CLOSED: true,
  /** Nothing valid came from the peer for `idleTimeoutMs`, not even a heartbeat. */
  IDLE_TIMEOUT: true,
  /** The peer lives, and no chunk, credit or acknowledgement came for `stallTimeoutMs`. */
  STALL_TIMEOUT: true,
  /** No credential, or one that is refused. */
  UNAUTHORIZED: false,
  /** The principal has no right to publish, or to fetch, that model. */
  FORBIDDEN: false,
  /** The server has no model of that name. */
  NOT_FOUND: false,
  /** What the reference stands for has been removed, since its time was over. */
  REFERENCE_EXPIRED: false,
  /** The server has as many transfers, of this peer or in all, as it takes. */
  SERVER_BUSY: true,
  /** A round's deadline came before as many models had arrived as it needs. */
  QUORUM_MISSED: true,
  /** There is no GPU that can be used here. */
  DEVICE_UNAVAILABLE: false,
  /** The GPU went away, and with it what its buffers held. */
  DEVICE_LOST: false,
  /** The GPU refused a buffer, a shader or a job. */
  DEVICE_FAILED: false,
  /** The transfer was cancelled, here or by the peer. */
  ABORTED: false,
  /** The peer failed; its own code and message are in the text. */
  PEER_FAILED: false,
  /** A defect of this library: please report it. */
  INTERNAL: false,
} as const;

/** A stable error code: a contract between versions. */
export type ErrorCode = keyof typeof RETRYABLE;

/** Every code there is, for documentation and tests. */
export const ERROR_CODES = Object.keys(RETRYABLE) as ErrorCode[];

/** What a TensorwireError knows besides its code and message. */
export interface ErrorDetail {
  /** Name of the tensor at fault. */
  tensor?: string | undefined;
  /** Index of the chunk within its tensor. */
  chunk?: number | undefined;
  /** What it was caused by: an error of the system, or of a caller's code. */
  cause?: unknown;
  /** In the place of what the code says by itself. */
  retryable?: boolean | undefined;
  /** The code that the peer reported, when `code` is `PEER_FAILED`. */
  peerCode?: string | undefined;
}

/**
 * The one error of this library. `message` names tensor, chunk and cause, and says what to do.
 * @example
 * const error = new TensorwireError("CHUNK_CORRUPT", "its hash differs", { tensor: "lm_head", chunk: 3 });
 * console.log(error.code, error.retryable, error.message); // CHUNK_CORRUPT true tensor "lm_head", chunk 3: its hash differs
 */
export class TensorwireError extends Error {
  /** `TensorwireError`. */
  override readonly name = "TensorwireError";
  /** What went wrong, of `docs/errors.md`: a contract, unlike the message. */
  readonly code: ErrorCode;
  /** Whether the same call, unchanged, can succeed. */
  readonly retryable: boolean;
  /** Name of the tensor at fault, where there is one. */
  readonly tensor: string | undefined;
  /** Index of the chunk within that tensor. */
  readonly chunk: number | undefined;
  /** The code that the peer reported, where `code` is `PEER_FAILED`. */
  readonly peerCode: string | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(locate(message, detail), detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.retryable = detail.retryable ?? RETRYABLE[code];
    this.tensor = detail.tensor;
    this.chunk = detail.chunk;
    this.peerCode = detail.peerCode;
  }
}

function locate(message: string, { tensor, chunk }: ErrorDetail): string {
  if (tensor === undefined) return message;
  const where = chunk === undefined ? `tensor ${quote(tensor)}` : `tensor ${quote(tensor)}, chunk ${chunk}`;
  return `${where}: ${message}`;
}

/**
 * A peer's or file's name, made safe to print: control characters escaped, shortened to 200 characters.
 * @example
 * console.log(quote("layer\n1")); // "layer\n1"
 */
export function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 197)}...` : name);
}

/**
 * `error` itself if it is a TensorwireError, else one with `code` that keeps it as its cause.
 * @example
 * const error = asTensorwireError(new Error("disk on fire"), "TARGET_WRITE", "out.safetensors");
 * console.log(error.code, error.message); // TARGET_WRITE out.safetensors: disk on fire
 */
export function asTensorwireError(error: unknown, code: ErrorCode, context?: string): TensorwireError {
  if (error instanceof TensorwireError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new TensorwireError(code, context ? `${context}: ${reason}` : reason, { cause: error });
}
