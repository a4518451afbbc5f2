import { createHash } from "node:crypto";
import { BufferPool, type Loan, type TensorwireError } from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import { Block } from "../src/remote/block.js";
import { HttpReader, type HttpReaderOptions, TAIL_BYTES } from "../src/remote/http-reader.js";
import type { ByteRange } from "../src/source/byte-reader.js";
import { type Fault, RangeServer } from "./range-server.js";

const KiB = 1024;
const MiB = 2 ** 20;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const content = new Uint8Array(6 * MiB);
for (let i = 0; i < content.length; i += 32) {
  content.set(createHash("sha256").update(String(i)).digest(), i);
}

async function serve(fault?: Fault): Promise<RangeServer> {
  const server = await RangeServer.open(content);
  server.fault = fault;
  closers.push(() => server.close());
  return server;
}

async function open(url: string, options: Partial<HttpReaderOptions> = {}): Promise<HttpReader> {
  const defaults = { concurrency: 4, idleTimeoutMs: 10_000, readAheadBytes: 4 * MiB };
  const reader = await HttpReader.open(url, { ...defaults, ...options });
  closers.push(() => reader.close());
  return reader;
}

/** Reads what was announced, and looks at every byte. */
async function readAll(reader: HttpReader, ranges: readonly ByteRange[], pool = new BufferPool(MiB)) {
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
const ranges = (bytes: number, upTo = content.length): ByteRange[] =>
  Array.from({ length: Math.ceil(upTo / bytes) }, (_, i) => ({
    position: i * bytes,
    bytes: Math.min(bytes, upTo - i * bytes),
  }));

describe("ranges of a file on a web server", () => {
  test("are fetched several at once, and never more than were asked for", async () => {
    const server = await serve(async (answer) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return answer;
    });
    await readAll(await open(server.url, { concurrency: 3 }), ranges(300 * KiB));
    expect(server.most).toBe(3);
    expect(server.sentBytes).toBe(content.length + TAIL_BYTES);
    expect(server.requests[0]).toMatchObject({ method: "HEAD" });
    for (const { headers } of server.requests) expect(headers["accept-encoding"]).toBe("identity");
    for (const { headers } of server.requests.slice(1)) expect(headers["if-range"]).toBe('"first"');
  });

  test("that lie near each other are one request, and what lies far between is not fetched", async () => {
    const server = await serve();
    const near = [0, 1, 2].map((i) => ({ position: i * 40 * KiB, bytes: 20 * KiB }));
    const far = { position: 4 * MiB, bytes: 20 * KiB };
    await readAll(await open(server.url), [...near, far]);
    expect(server.ranges.slice(1)).toEqual([
      `bytes=0-${100 * KiB - 1}`,
      `bytes=${4 * MiB}-${4 * MiB + 20 * KiB - 1}`,
    ]);
  });

  test("that are large are cut into pieces", async () => {
    const server = await serve();
    await readAll(
      await open(server.url, { readAheadBytes: 2 * MiB, concurrency: 4 }),
      ranges(2 * MiB),
      new BufferPool(2 * MiB),
    );
    expect(server.ranges.slice(1)).toHaveLength(12);
  });

  test("take no more of the pool than may be read ahead", async () => {
    const server = await serve();
    const reader = await open(server.url, { readAheadBytes: 3 * MiB, concurrency: 8 });
    const pool = new BufferPool(MiB);
    reader.expect(ranges(100 * KiB));
    const held: number[] = [];
    for (const { position, bytes } of ranges(100 * KiB)) {
      const loan = await reader.read(position, bytes, pool);
      held.push(pool.heldBytes);
      loan.release();
    }
    // What is lent besides, of the block that was read last.
    expect(Math.max(...held)).toBeLessThanOrEqual(4 * pool.slabBytes);
    expect(Math.max(...held)).toBeGreaterThan(2 * pool.slabBytes);
  });

  test("that were not announced can be read too", async () => {
    const server = await serve();
    const reader = await open(server.url);
    const pool = new BufferPool(MiB);
    reader.expect([{ position: MiB, bytes: 100 }]);
    for (const position of [5, MiB, 2 * MiB]) {
      const loan = await reader.read(position, 100, pool);
      expect(Buffer.compare(loan.bytes, content.subarray(position, position + 100))).toBe(0);
      loan.release();
    }
    await reader.close();
    expect(pool.loans).toBe(0);
  });

  test("are the same version as long as what is read first is", async () => {
    const [one, other] = [await serve(), await serve()];
    other.tag = undefined;
    const versions: string[] = [];
    for (const { url } of [one, other]) {
      const reader = await open(url);
      await reader.readInto(5 * MiB, new Uint8Array(1000));
      versions.push(reader.version);
    }
    other.content = content.slice();
    other.content[5 * MiB]! ^= 1;
    const reader = await open(other.url);
    await reader.readInto(5 * MiB, new Uint8Array(1000));
    expect(versions[0]).toBe(versions[1]);
    expect(reader.version).not.toBe(versions[0]);
  });
});

describe("a server that misbehaves", () => {
  /** Reads everything from a server with a fault that can be borne. */
  async function bears(fault: Fault, options?: Partial<HttpReaderOptions>): Promise<RangeServer> {
    const server = await serve(fault);
    await readAll(await open(server.url, options), ranges(300 * KiB));
    return server;
  }

  test("refuses HEAD", async () => {
    const server = await bears((answer, { method }) =>
      method === "HEAD" ? { status: 405, headers: {}, body: new Uint8Array() } : answer,
    );
    expect(server.ranges[0]).toBe("bytes=0-0");
  });

  test("answers HEAD without a length", async () => {
    const server = await bears((answer, { method }) => {
      if (method === "HEAD") delete answer.headers["content-length"];
      return answer;
    });
    expect(server.ranges[0]).toBe("bytes=0-0");
  });

  for (const [what, from] of [
    ["from the beginning", 0],
    ["from the third answer on", 3],
  ] as const) {
    test(`answers with all of the file, ${what}: it is read forward, once`, async () => {
      const whole: Fault = (answer, { method }) => {
        if (method === "HEAD" || server.requests.length <= from) return answer;
        const headers: Record<string, string> = {
          ...answer.headers,
          "content-length": String(content.length),
        };
        delete headers["content-range"];
        return { status: 200, headers, body: content };
      };
      const server = await serve(whole);
      await readAll(await open(server.url), ranges(300 * KiB));
      const gets = server.requests.filter(({ method }) => method === "GET");
      // Those that were under way when it turned out, and one for all.
      expect(gets.length).toBeLessThanOrEqual(from + 5);
    });
  }

  test("answers with less than was asked for: the rest is asked for again", async () => {
    await bears((answer) => {
      if (answer.status !== 206 || answer.body.length < 100 * KiB) return answer;
      const [first, size] = /(\d+)-\d+\/(\d+)/.exec(answer.headers["content-range"]!)!.slice(1).map(Number);
      const body = answer.body.subarray(0, 100 * KiB);
      return {
        status: 206,
        headers: { "content-range": `bytes ${first}-${first! + body.length - 1}/${size}` },
        body,
      };
    });
  });

  test("breaks off: what came is not asked for again", async () => {
    let [broken, brought] = [0, 0];
    const server = await bears((answer, _, response) => {
      if (answer.status !== 206 || answer.body.length < 200 * KiB || broken++ % 2) return answer;
      response.writeHead(206, answer.headers);
      brought += 100 * KiB;
      response.write(answer.body.subarray(0, 100 * KiB), () => setTimeout(() => response.destroy(), 20));
      return undefined;
    });
    expect(broken).toBeGreaterThan(4);
    expect(server.sentBytes + brought).toBe(content.length + TAIL_BYTES);
  });

  test("says 503 now and then", async () => {
    let n = 0;
    const server = await bears((answer) =>
      n++ % 3 === 0 ? { status: 503, headers: {}, body: new Uint8Array() } : answer,
    );
    expect(server.requests.length).toBeGreaterThan(6);
  });

  test("falls silent in the middle of a body", async () => {
    let silent = 0;
    await bears(
      (answer, _, response) => {
        if (answer.status !== 206 || silent++ > 0) return answer;
        response.writeHead(206, answer.headers);
        response.write(answer.body.subarray(0, 10 * KiB));
        return undefined;
      },
      { idleTimeoutMs: 300 },
    );
  });

  /** What reading fails with. */
  async function failure(
    fault: Fault,
    options?: Partial<HttpReaderOptions>,
    server?: RangeServer,
  ): Promise<TensorwireError> {
    const at = server ?? (await serve());
    const reader = await open(at.url, options);
    at.fault = fault;
    const pool = new BufferPool(MiB);
    reader.expect(ranges(300 * KiB));
    const read = async (): Promise<Loan[]> => {
      const loans: Loan[] = [];
      for (const { position, bytes } of ranges(300 * KiB))
        loans.push(await reader.read(position, bytes, pool));
      return loans;
    };
    const error = await read().then(
      () => undefined,
      (reason) => reason,
    );
    await reader.close();
    return error;
  }

  test("has another file meanwhile: SOURCE_CHANGED", async () => {
    const cases: Fault[] = [
      (answer) => ({ ...answer, headers: { ...answer.headers, etag: '"second"' } }),
      (answer) => ({
        status: 200,
        headers: { etag: '"second"', "content-length": "5" },
        body: answer.body.subarray(0, 5),
      }),
      () => ({ status: 412, headers: {}, body: new Uint8Array() }),
      () => ({ status: 416, headers: {}, body: new Uint8Array() }),
      () => ({ status: 404, headers: {}, body: new Uint8Array() }),
      (answer) => ({
        ...answer,
        headers: {
          "content-range": answer.headers["content-range"]!.replace(/\d+$/, String(content.length * 2)),
        },
      }),
    ];
    for (const fault of cases) expect(await failure(fault)).toMatchObject({ code: "SOURCE_CHANGED" });
  });

  test("answers with another range, or compresses: SOURCE_INVALID", async () => {
    const shifted: Fault = (answer) => ({
      ...answer,
      headers: { ...answer.headers, "content-range": `bytes 5-${answer.body.length + 4}/${content.length}` },
    });
    const compressed: Fault = (answer) => ({
      ...answer,
      headers: { ...answer.headers, "content-encoding": "gzip" },
    });
    for (const fault of [shifted, compressed]) {
      expect(await failure(fault)).toMatchObject({ code: "SOURCE_INVALID", retryable: false });
    }
  });

  test("asks for a credential after a while: UNAUTHORIZED", async () => {
    const fault: Fault = () => ({ status: 401, headers: {}, body: new Uint8Array() });
    expect(await failure(fault)).toMatchObject({ code: "UNAUTHORIZED" });
  });

  test("is gone: CHANNEL_CLOSED, after some attempts", async () => {
    const server = await serve();
    const fault: Fault = (_, __, response) => {
      response.destroy();
      return undefined;
    };
    const before = server.requests.length;
    const error = await failure(fault, { concurrency: 1 }, server);
    expect(error).toMatchObject({ code: "CHANNEL_CLOSED", retryable: true });
    expect(server.requests.length - before).toBeLessThanOrEqual(8);
  }, 20_000);

  test("says nothing at all: IDLE_TIMEOUT", async () => {
    const error = await failure(() => undefined, { idleTimeoutMs: 200 });
    expect(error).toMatchObject({ code: "IDLE_TIMEOUT", retryable: true });
  });

  test("does not say how long the file is: SOURCE_INVALID", async () => {
    const server = await serve((answer, { method }, response) => {
      if (method === "HEAD") return { status: 405, headers: {}, body: new Uint8Array() };
      response.writeHead(200, {});
      response.write(answer.body.subarray(0, 10));
      return undefined;
    });
    await expect(open(server.url)).rejects.toMatchObject({ code: "SOURCE_INVALID" });
  });
});

describe("closing", () => {
  test("at any moment leaves no connection and no buffer", async () => {
    for (let after = 0; after < 12; after++) {
      const server = await serve(async (answer) => {
        await new Promise((resolve) => setTimeout(resolve, 3));
        return answer;
      });
      const reader = await open(server.url);
      const pool = new BufferPool(MiB);
      reader.expect(ranges(300 * KiB));
      const reading = (async () => {
        for (const { position, bytes } of ranges(300 * KiB))
          (await reader.read(position, bytes, pool)).release();
      })().catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, after * 2));
      await reader.close();
      await reading;
      expect(pool.loans).toBe(0);
      while (server.sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      await server.close();
    }
  }, 20_000);

  test("gives no memory back that somebody still writes into", async () => {
    const pool = new BufferPool(MiB);
    const block = new Block(0, pool.lend(1000));
    expect(block.pieces(600).map(({ position, target }) => [position, target.length])).toEqual([
      [0, 500],
      [500, 500],
    ]);
    let end!: () => void;
    const writing = new Promise<void>((resolve) => {
      end = resolve;
    });
    const filled = block.filled(writing);
    const part = block.part(0, 1000);
    block.drop(new Error("enough"));
    await expect(part).rejects.toThrow("enough");
    expect(pool.loans).toBe(1);
    end();
    await filled;
    expect(pool.loans).toBe(0);
  });

  test("by a signal ends what waits for a silent server", async () => {
    const server = await serve();
    const stop = new AbortController();
    const reader = await open(server.url, { signal: stop.signal, idleTimeoutMs: 0 });
    server.fault = () => undefined;
    const pool = new BufferPool(MiB);
    reader.expect(ranges(300 * KiB));
    const reading = reader.read(0, 300 * KiB, pool);
    setTimeout(() => stop.abort(new Error("enough")), 50);
    await expect(reading).rejects.toThrow("enough");
    await reader.close();
    expect(pool.loans).toBe(0);
  });
});

describe("a server that leads elsewhere", () => {
  async function redirecting(to: () => string, status = 302): Promise<RangeServer> {
    return serve(() => ({ status, headers: { location: to() }, body: new Uint8Array() }));
  }

  test("is followed, and what this side shows for who it is stays with its own origin", async () => {
    const place = await serve();
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await redirecting(() => place.url, status);
      place.requests.length = 0;
      const reader = await open(server.url, { token: "secret", headers: { "x-key": "secret" } });
      await readAll(reader, ranges(MiB));
      for (const { headers } of server.requests) {
        expect(headers).toMatchObject({ authorization: "Bearer secret", "x-key": "secret" });
      }
      expect(place.requests.length).toBeGreaterThan(3);
      expect(JSON.stringify(place.requests)).not.toContain("secret");
      // It is asked once: the others go where the first was led to.
      expect(server.requests).toHaveLength(1);
    }
  });

  test("is asked again where the place was good for a while only", async () => {
    let good = "a";
    const place = await serve((answer, { url }) =>
      url === `/${good}` ? answer : { status: 403, headers: {}, body: new Uint8Array() },
    );
    const server = await redirecting(() => new URL(`/${good}`, place.url).href);
    const reader = await open(server.url);
    good = "b";
    await readAll(reader, ranges(MiB));
  });

  test("in circles, to clear text, to what is no web server: CHANNEL_OPEN", async () => {
    const server: RangeServer = await redirecting(() => server.url);
    await expect(open(server.url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
    const other = await redirecting(() => "ftp://example.org/m.twire");
    await expect(open(other.url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
  });
});
