import { BufferPool } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { Block } from "../src/remote/block.js";
import { TAIL_BYTES } from "../src/remote/http-reader.js";
import { content, KiB, MiB, open, ranges, readAll, serve } from "./remote-reader-fixture.js";

describe("ranges of a file on a web server", () => {
  test("are fetched several at once, and never more than were asked for", async () => {
    const server = await serve(async (answer) => {
      await new Promise((resolve) => setTimeout(resolve, 30));
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
