import { type ErrorCode, TensorwireError } from "@tensorwire/core";
import { shownUrl } from "./address.js";

const STATUS: Partial<Record<ErrorCode, number>> = {
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  SERVER_BUSY: 503,
};

/** What a server answers with instead of letting somebody in. */
export function statusOf({ code }: TensorwireError): number {
  return STATUS[code] ?? 400;
}

const WORDS: Partial<Record<ErrorCode, string>> = {
  UNAUTHORIZED: "it asks for a credential, or refuses this one",
  FORBIDDEN: "it does not allow that",
  NOT_FOUND: "there is nothing of that name",
  SERVER_BUSY: "it is busy: try again later",
};

/** What it means to whoever asked that a server answers with another status than it should. */
export function statusError(url: string, status: number): TensorwireError {
  const known = Object.entries(STATUS).find(([, number]) => number === status)?.[0] as ErrorCode | undefined;
  const message = `${shownUrl(url)} answers with status ${status}`;
  if (known) return new TensorwireError(known, `${message}: ${WORDS[known]}`);
  return new TensorwireError("CHANNEL_OPEN", message, { retryable: status >= 500 });
}
