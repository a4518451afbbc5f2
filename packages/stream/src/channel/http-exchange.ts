import type { IncomingHttpHeaders } from "node:http";

/** What a channel's requests and answers are called: `docs/wire-format.md`, HTTP. */
export const MEDIA_TYPE = "application/vnd.tensorwire.channel";

/** The parameter of a transfer URL that holds its id. */
export const ID_PARAMETER = "tensorwire";

/** Place in its direction of the first byte of the body. */
export const OFFSET = "tensorwire-offset";
/** Bytes of the other direction that have been taken: those need not be kept for another try. */
export const RECEIVED = "tensorwire-received";
/** That nothing comes after this body: `complete`, or `dropped` where something failed. */
export const END = "tensorwire-end";
/** Place at which the answer is to begin: behind what an answer that is being read will have brought. */
export const FROM = "tensorwire-from";
/** Bytes that the answer's body may have. */
export const MOST = "tensorwire-most";

export type EndWord = "complete" | "dropped";

/** Bytes of one body, at most. Fewer where the line is slow, or where something between takes less. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** Bytes that the answer to a PUT brings along. */
export const MAX_ANSWER_BYTES = 64 * 1024;

/** How long a GET waits for something to answer with: under the least that proxies wait. */
export const POLL_MS = 20_000;

/** A count in a header. `undefined` where it is missing, or is none. */
export function countOf(headers: IncomingHttpHeaders, name: string): number | undefined {
  const text = headers[name];
  if (typeof text !== "string" || !/^\d{1,16}$/.test(text)) return undefined;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : undefined;
}

/** What a direction ends with, if it does. */
export function endOf(headers: IncomingHttpHeaders): EndWord | undefined {
  const word = headers[END];
  return word === "complete" || word === "dropped" ? word : undefined;
}
