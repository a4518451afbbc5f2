import { BufferPool, type Loan, type TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { type HttpReaderOptions, TAIL_BYTES } from "../src/remote/http-reader.js";
import type { Fault, RangeServer } from "./range-server.js";
import { content, KiB, MiB, open, ranges, readAll, serve } from "./remote-reader-fixture.js";

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
