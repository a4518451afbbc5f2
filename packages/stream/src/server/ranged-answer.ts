import { type FileHandle, open } from "node:fs/promises";
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as pause } from "node:timers/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import fresh from "fresh";
import parseRange from "range-parser";
import { ByteRate } from "../channel/byte-rate.js";
import { checkWithin } from "../source/confinement.js";
import { fileFault } from "../source/file-fault.js";
import { fileVersion, versionToken } from "../source/file-version.js";

/** An artifact that is served as the file that it is. */
export interface ServedFile {
  readonly path: string;
  /** The folder, without links, that it must lie in. Default: it lies anywhere. */
  readonly within?: string | undefined;
  /** What it is known by, as long as it is the same. Default: by the file's state. */
  readonly tag?: string | undefined;
}

/** A request by HTTP alone, and its answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** What was answered. */
export interface Answered {
  readonly status: number;
  /** Of the file, that were sent. */
  readonly bytes: number;
}

/** What is read of the file at once, and waits for the socket. */
const PORTION_BYTES = 256 * 1024;

/**
 * Answers a GET or HEAD of a file as any web server does (RFC 9110): whole or in part (`Range`, one of them), with a strong tag by
 * which parts of one state are told from those of another.
 * @throws TensorwireError `SOURCE_READ` before anything is answered; afterwards the connection is cut.
 */
export async function answerFile(
  { request, response }: Exchange,
  { path, within, tag }: ServedFile,
  maxBytesPerSecond: number | undefined,
): Promise<Answered> {
  const handle = await open(path).catch((cause) => {
    throw fileFault(cause, path, "opened");
  });
  try {
    if (within !== undefined) await checkWithin(within, path, handle);
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) throw new TensorwireError("SOURCE_READ", `${quote(path)} is no regular file`);
    const etag = `"${tag ?? versionToken([fileVersion(stats)])}"`;
    const { status, headers, part } = answerTo(request, Number(stats.size), etag);
    response.writeHead(status, headers);
    if (!part || request.method === "HEAD") {
      response.end();
      return { status, bytes: 0 };
    }
    await send(handle, part, response, maxBytesPerSecond);
    return { status, bytes: part.end - part.start + 1 };
  } finally {
    await handle.close();
  }
}

/** The first and the last byte. */
interface Part {
  readonly start: number;
  readonly end: number;
}

interface FileAnswer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly part?: Part;
}

function answerTo({ method, headers: asked }: IncomingMessage, size: number, etag: string): FileAnswer {
  const known = { etag, "accept-ranges": "bytes", "cache-control": "no-transform" };
  const { "if-match": match, "if-range": ifRange, range } = asked;
  if (match !== undefined && !/^\s*\*\s*$/.test(match) && !match.split(/\s*,\s*/).includes(etag)) {
    return { status: 412, headers: { ...known, "content-length": 0 } };
  }
  // Without the rest: a request to look again (`no-cache`) has come to where there is something to look at.
  if (fresh({ "if-none-match": asked["if-none-match"] }, { etag })) return { status: 304, headers: known };
  const headers = { ...known, "content-type": "application/octet-stream", "content-length": size };
  const whole = { status: 200, headers, ...(size > 0 && { part: { start: 0, end: size - 1 } }) };
  // A weak tag, or a date, does not say that the bytes are the same.
  if (method !== "GET" || range === undefined || (ifRange !== undefined && String(ifRange).trim() !== etag))
    return whole;
  // The last so many bytes are all of them where there are fewer; `range-parser` takes that for none.
  const last = /^bytes=-(\d+)$/.exec(range)?.[1];
  const parts = parseRange(size, last !== undefined && Number(last) > size ? "bytes=0-" : range);
  if (parts === -1) {
    return { status: 416, headers: { ...known, "content-range": `bytes */${size}`, "content-length": 0 } };
  }
  // A unit that is not known, what is no range, and several of them are passed over.
  if (parts === -2 || parts.type !== "bytes" || parts.length !== 1) return whole;
  const { start, end } = parts[0]!;
  const place = { "content-range": `bytes ${start}-${end}/${size}`, "content-length": end - start + 1 };
  return { status: 206, headers: { ...headers, ...place }, part: { start, end } };
}

async function send(
  handle: FileHandle,
  { start, end }: Part,
  response: ServerResponse,
  maxBytesPerSecond: number | undefined,
): Promise<void> {
  const file = handle.createReadStream({ start, end, highWaterMark: PORTION_BYTES, autoClose: false });
  if (maxBytesPerSecond === undefined) return pipeline(file, response);
  const rate = new ByteRate(maxBytesPerSecond);
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const paced = new Transform({
    highWaterMark: PORTION_BYTES,
    transform(portion: Buffer, _encoding, done) {
      rate.spend(portion.length);
      pause(rate.delay, undefined, { signal: gone.signal }).then(() => done(null, portion), done);
    },
  });
  return pipeline(file, paced, response);
}
