import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { CHUNKS, fetched, hasSpool, model, serving, spool } from "./spool-fixture.js";

hasSpool();

describe("a plain GET of an artifact", () => {
  async function published(): Promise<{ url: string; bytes: Buffer }> {
    const server = await serving();
    await server.publish("m.twire", model(1), { spool, encode: "now", ...CHUNKS });
    const [artifact] = server.published("m.twire").artifacts;
    return { url: server.urlOf("m.twire").replace("ws:", "http:"), bytes: await readFile(artifact!.path) };
  }

  test("gets it whole or in parts, by one strong tag", async () => {
    const { url, bytes } = await published();
    const whole = await fetch(url);
    const etag = whole.headers.get("etag")!;
    expect(etag).toMatch(/^"[0-9a-f]{32}"$/);
    expect(whole.status).toBe(200);
    expect(whole.headers.get("accept-ranges")).toBe("bytes");
    expect(whole.headers.get("content-length")).toBe(String(bytes.length));
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true);
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), head.headers.get("etag")]).toEqual([
      200,
      String(bytes.length),
      etag,
    ]);
    expect((await head.arrayBuffer()).byteLength).toBe(0);
    const size = bytes.length;
    const ask = async (headers: Record<string, string>) => {
      const answer = await fetch(url, { headers });
      const body = Buffer.from(await answer.arrayBuffer());
      return { status: answer.status, range: answer.headers.get("content-range"), body };
    };
    for (const [range, start, end] of [
      ["bytes=0-0", 0, 0],
      ["bytes=100-199", 100, 199],
      [`bytes=${size - 10}-`, size - 10, size - 1],
      ["bytes=-16", size - 16, size - 1],
      [`bytes=5-${size + 5}`, 5, size - 1],
      [`bytes=-${size + 5}`, 0, size - 1],
    ] as const) {
      const part = await ask({ range, "if-range": etag });
      expect([part.status, part.range]).toEqual([206, `bytes ${start}-${end}/${size}`]);
      expect(part.body.equals(bytes.subarray(start, end + 1))).toBe(true);
    }
    expect(await ask({ range: `bytes=${size}-` })).toMatchObject({ status: 416, range: `bytes */${size}` });
    // What is no range, several, and a part of another state: all of it.
    for (const headers of [
      { range: "bytes=x-y" },
      { range: "lines=0-1" },
      { range: "bytes=0-1,5-6" },
      { range: "bytes=0-1", "if-range": '"another"' },
      { range: "bytes=0-1", "if-range": `W/${etag}` },
    ]) {
      expect(await ask(headers as Record<string, string>)).toMatchObject({ status: 200, range: null });
    }
    expect((await ask({ "if-none-match": `"x", ${etag}` })).status).toBe(304);
    expect((await ask({ "if-match": '"another"' })).status).toBe(412);
    expect((await ask({ "if-match": etag, range: "bytes=0-1" })).status).toBe(206);
    expect((await fetched(url)).value).toBe(1);
  });

  test("of a folder's too, and of what is encoded for each receiver there is no length", async () => {
    const server = await serving();
    server.publish("each", model(1));
    const url = server.urlOf("each").replace("ws:", "http:");
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, head.headers.get("allow")]).toEqual([405, "GET"]);
    const { status, headers, body } = await fetch(url, { headers: { range: "bytes=0-1" } });
    await body?.cancel();
    expect([status, headers.get("accept-ranges")]).toEqual([200, null]);
  });
});
