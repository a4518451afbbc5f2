import type { ErrorCode } from "@tensorwire/core";

/** What the process exits with: scripts decide by it, so a number never changes its meaning. */
export const EXIT_CODES = {
  ok: 0,
  internal: 1,
  usage: 2,
  source: 3,
  target: 4,
  channel: 5,
  integrity: 6,
  terms: 7,
  peer: 8,
  door: 9,
  device: 10,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitReason = keyof typeof EXIT_CODES;

const MEANINGS: Record<ExitReason, string> = {
  ok: "done; where a peer can answer, send waits until it has confirmed",
  internal: "a defect of tensorwire: please report it",
  usage: "an argument or option that cannot be used",
  source:
    "the model or artifact to read is missing, invalid, or changed meanwhile; --non-finite error refused it",
  target: "the output exists, is busy, full or not writable",
  channel: "the peer cannot be reached, or went away: trying again can help",
  integrity: "what arrived is damaged or breaks the protocol",
  terms: "a limit, codec, version, role or integrity on which the two ends do not agree",
  peer: "the peer failed, or cancelled: its reason is in the message",
  door: "the server refuses the credential, grants no such right, or has no such model",
  device: "the GPU is not there, failed, or went away",
  interrupted: "cancelled by SIGINT; the peer was told; a later call can go on from what is left",
  terminated: "the same by SIGTERM",
};

const REASONS: Record<ErrorCode, ExitReason> = {
  INVALID_ARGUMENT: "usage",
  SOURCE_INVALID: "source",
  SOURCE_MISMATCH: "source",
  BASE_MISMATCH: "source",
  VALUE_NOT_FINITE: "source",
  SOURCE_READ: "source",
  SOURCE_CHANGED: "source",
  TARGET_EXISTS: "target",
  TARGET_BUSY: "target",
  TARGET_FULL: "target",
  TARGET_WRITE: "target",
  SINK_CLOSED: "target",
  TENSOR_TOO_LARGE: "target",
  PROTOCOL: "integrity",
  FRAME_CORRUPT: "integrity",
  CHUNK_CORRUPT: "integrity",
  DIGEST_MISMATCH: "integrity",
  INTEGRITY_REQUIRED: "terms",
  MANIFEST_INVALID: "integrity",
  LIMIT_EXCEEDED: "terms",
  CREDIT_EXCEEDED: "integrity",
  VERSION_UNSUPPORTED: "terms",
  CODEC_UNSUPPORTED: "terms",
  PAYLOAD_INVALID: "integrity",
  ROLE_CONFLICT: "terms",
  CHANNEL_OPEN: "channel",
  CHANNEL_CLOSED: "channel",
  IDLE_TIMEOUT: "channel",
  STALL_TIMEOUT: "channel",
  SERVER_BUSY: "channel",
  UNAUTHORIZED: "door",
  FORBIDDEN: "door",
  NOT_FOUND: "door",
  REFERENCE_EXPIRED: "door",
  DEVICE_UNAVAILABLE: "device",
  DEVICE_LOST: "device",
  DEVICE_FAILED: "device",
  // A signal to this process has codes of its own: what is left is the peer's cancellation.
  QUORUM_MISSED: "peer",
  ABORTED: "peer",
  PEER_FAILED: "peer",
  INTERNAL: "internal",
};

export function exitCodeOf(code: ErrorCode): number {
  return EXIT_CODES[REASONS[code]];
}

/** The table for `--help`. */
export function exitCodeHelp(): string {
  const lines = Object.entries(EXIT_CODES).map(
    ([reason, code]) => `  ${String(code).padEnd(4)} ${MEANINGS[reason as ExitReason]}`,
  );
  return ["Exit codes:", ...lines].join("\n");
}
