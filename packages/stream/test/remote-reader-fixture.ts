import { createHash } from "node:crypto";
import { BufferPool } from "@tensorwire/core";
import { afterEach, expect } from "vitest";
import { HttpReader, type HttpReaderOptions } from "../src/remote/http-reader.js";
import type { ByteRange } from "../src/source/byte-reader.js";
import { type Fault, RangeServer } from "./range-server.js";

export const KiB = 1024;
export const MiB = 2 ** 20;
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export const content = new Uint8Array(6 * MiB);

for (let i = 0; i < content.length; i += 32) {
  content.set(createHash("sha256").update(String(i)).digest(), i);
}

export async function serve(fault?: Fault): Promise<RangeServer> {
  const server = await RangeServer.open(content);
  server.fault = fault;
  closers.push(() => server.close());
  return server;
}

export async function open(url: string, options: Partial<HttpReaderOptions> = {}): Promise<HttpReader> {
  const defaults = { concurrency: 4, idleTimeoutMs: 10_000, readAheadBytes: 4 * MiB };
  const reader = await HttpReader.open(url, { ...defaults, ...options });
  closers.push(() => reader.close());
  return reader;
}

/** Reads what was announced, and looks at every byte. */
export async function readAll(reader: HttpReader, ranges: readonly ByteRange[], pool = new BufferPool(MiB)) {
  reader.expect(ranges);
  for (const { position, bytes } of ranges) {
    const loan = await reader.read(position, bytes, pool);
    expect(Buffer.compare(loan.bytes, content.subarray(position, position + bytes))).toBe(0);
    loan.release();
  }
  await reader.close();
  expect(pool.loans).toBe(0);
}

/** All of the file, in ranges of a length. */
export const ranges = (bytes: number, upTo = content.length): ByteRange[] =>
  Array.from({ length: Math.ceil(upTo / bytes) }, (_, i) => ({
    position: i * bytes,
    bytes: Math.min(bytes, upTo - i * bytes),
  }));
