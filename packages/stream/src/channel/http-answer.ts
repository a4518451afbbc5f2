import type { ServerResponse } from "node:http";
import { MEDIA_TYPE } from "./http-exchange.js";

/** Answers a request of a channel. What a proxy may keep, or change, would be another channel's bytes. */
export function answer(
  response: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string | number>> = {},
  pieces: readonly Uint8Array[] = [],
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    "content-type": MEDIA_TYPE,
    "content-length": pieces.reduce((bytes, { length }) => bytes + length, 0),
    "cache-control": "no-store, no-transform",
    ...headers,
  });
  response.cork();
  for (const piece of pieces) response.write(piece);
  response.end();
  response.uncork();
}
