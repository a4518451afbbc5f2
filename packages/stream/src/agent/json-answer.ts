import type { ServerResponse } from "node:http";
import { asTensorwireError, type ErrorCode, type TensorwireError } from "@tensorwire/core";
import { faultOf } from "./transfer-record.js";

const STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  CODEC_UNSUPPORTED: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  TARGET_EXISTS: 409,
  TARGET_BUSY: 409,
  REFERENCE_EXPIRED: 410,
  LIMIT_EXCEEDED: 413,
  SOURCE_INVALID: 422,
  SOURCE_MISMATCH: 422,
  SOURCE_READ: 422,
  SOURCE_CHANGED: 422,
  INTERNAL: 500,
  TARGET_WRITE: 500,
  VERSION_UNSUPPORTED: 501,
  SERVER_BUSY: 503,
  TARGET_FULL: 507,
};

/** Whatever else a transfer can fail with is of the other side, or of the way there. */
const OTHER = 502;

export function answerJson(response: ServerResponse, status: number, body: object): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": bytes.length,
    "cache-control": "no-store",
  });
  response.end(bytes);
}

/** @param error What the request, or what it asks for, failed with. */
export function answerError(response: ServerResponse, cause: unknown): void {
  const error: TensorwireError = asTensorwireError(cause, "INTERNAL");
  const status = STATUS[error.code] ?? OTHER;
  if (!response.headersSent && status === 401) response.setHeader("www-authenticate", "Bearer");
  answerJson(response, status, { error: faultOf(error) });
}
