import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { link, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { TensorwireError } from "@tensorwire/core";
import { isErrno, targetError } from "../sink/target-error.js";
import type { Exchange } from "./exchange.js";
import { takenFile } from "./publishing.js";

/** Bytes of a request that is JSON. */
export const MAX_JSON_BYTES = 1024 * 1024;

/** After so many bytes of a body whose length nobody has said there is another look at the space that is left. */
const LOOK_BYTES = 64 * 1024 * 1024;

/** @throws TensorwireError `INVALID_ARGUMENT`, `LIMIT_EXCEEDED`. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const type = request.headers["content-type"] ?? "";
  // A page in a browser cannot say so without asking first.
  if (!/^application\/json\s*(?:;|$)/i.test(type)) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "the request's body is JSON, with content-type: application/json",
    );
  }
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > MAX_JSON_BYTES) {
      throw new TensorwireError("LIMIT_EXCEEDED", `a request's JSON has at most ${MAX_JSON_BYTES} bytes`);
    }
    pieces.push(piece);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString("utf8"));
  } catch (cause) {
    throw new TensorwireError("INVALID_ARGUMENT", "the request's body is no JSON", { cause });
  }
}

/**
 * Writes the body to where a publication looks for it: all of it, or nothing.
 * @throws TensorwireError `TARGET_FULL`, `TARGET_WRITE`, `CHANNEL_CLOSED` where the program went away.
 */
export async function takeBody(request: IncomingMessage, id: string, exchange: Exchange): Promise<void> {
  const { "content-length": length } = request.headers;
  await exchange.checkRoom(length === undefined ? 0 : Number(length));
  const path = exchange.own(takenFile(id));
  // Its own: a program that makes its request again may do so before its first connection is known to be dead.
  const part = `${path}.${randomUUID()}.part`;
  let unlooked = 0;
  const look = new Transform({
    transform(piece: Buffer, _encoding, done) {
      unlooked += piece.length;
      if (length !== undefined || unlooked < LOOK_BYTES) return done(null, piece);
      unlooked = 0;
      exchange.checkRoom(0).then(() => done(null, piece), done);
    },
  });
  try {
    await pipeline(request, look, createWriteStream(part, { flags: "w", mode: 0o600 }));
    await link(part, path).catch((cause) => {
      // Of two that were made by the same request one is enough, and may be read already.
      if (!isErrno(cause, "EEXIST")) throw cause;
    });
  } catch (cause) {
    if (request.complete || cause instanceof TensorwireError) throw targetError(cause, path);
    const message = "the program went away before the model's body was complete: nothing of it is kept";
    throw new TensorwireError("CHANNEL_CLOSED", message, { cause });
  } finally {
    await rm(part, { force: true });
  }
}
