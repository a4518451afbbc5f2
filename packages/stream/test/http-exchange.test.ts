import { createServer, get as httpGet, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Channel } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { dialHttp } from "../src/index.js";
import { ask, closers, created, MiB, mounted, put, serving, TYPE } from "./http-fixture.js";

/** A channel whose bytes are text, and its transfer URL. */
async function opened(headers: Record<string, string> = {}): Promise<{
  transfer: string;
  channel: Channel;
  heard: { text: string; end?: Error | "orderly" };
}> {
  const { url, channels } = await mounted();
  const transfer = await created(url, headers);
  const [channel] = channels;
  const heard: { text: string; end?: Error | "orderly" } = { text: "" };
  channel!.open({
    bytes: (portion) => void (heard.text += Buffer.from(portion).toString()),
    end: (error) => void (heard.end = error ?? "orderly"),
  });
  return { transfer, channel: channel!, heard };
}

const get = (transfer: string, received: number, headers: Record<string, string> = {}) =>
  ask(transfer, "GET", { "tensorwire-received": String(received), ...headers });

describe("the exchange of docs/wire-format.md", () => {
  test("a PUT's body belongs at its offset, however often it comes", async () => {
    const { transfer, heard } = await opened();
    expect(await put(transfer, 0, "abc")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "3" },
    });
    expect(await put(transfer, 0, "abc")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "3" },
    });
    expect(await put(transfer, 1, "bcdef")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "6" },
    });
    expect(heard.text).toBe("abcdef");
    const asked = await ask(transfer, "HEAD", { "tensorwire-received": "0" });
    expect(asked).toMatchObject({ status: 200, headers: { "tensorwire-received": "6" } });
  });

  test("a PUT waits for the one before it", async () => {
    const { transfer, heard } = await opened();
    const second = put(transfer, 3, "def");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(heard.text).toBe("");
    await put(transfer, 0, "abc");
    expect(await second).toMatchObject({ status: 200, headers: { "tensorwire-received": "6" } });
    expect(heard.text).toBe("abcdef");
  });

  test("a GET brings what was not received yet, again where it has to", async () => {
    const { transfer, channel } = await opened();
    const waiting = get(transfer, 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await channel.send([Buffer.from("abc"), Buffer.from("def")]);
    expect(await waiting).toMatchObject({
      status: 200,
      text: "abcdef",
      headers: { "tensorwire-offset": "0" },
    });
    expect(await get(transfer, 0)).toMatchObject({ text: "abcdef", headers: { "tensorwire-offset": "0" } });
    expect(await get(transfer, 4)).toMatchObject({ text: "ef", headers: { "tensorwire-offset": "4" } });
    await channel.send([Buffer.from("g".repeat(5000))]);
    const bounded = await get(transfer, 6, { "tensorwire-most": "4096" });
    expect(bounded.text).toBe("g".repeat(4096));
  });

  test("a GET of what its peer has had already brings what comes next, and nothing that lies where that was", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("a".repeat(1000))]);
    expect((await get(transfer, 0)).text).toHaveLength(1000);
    await ask(transfer, "HEAD", { "tensorwire-received": "1000" });
    const next = "b".repeat(300_000);
    await channel.send([Buffer.from(next)]);
    // One that was under way when another said more, or one that asks for what has been in that memory.
    const late = await get(transfer, 0, { "tensorwire-most": String(8 * MiB) });
    expect(late.headers).toMatchObject({ "tensorwire-offset": "1000" });
    expect(late.text === next).toBe(true);
  });

  test("a GET begins at the place it names, behind what an answer under way brings", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("abcdef")]);
    const ahead = await get(transfer, 0, { "tensorwire-from": "4" });
    expect(ahead).toMatchObject({ status: 200, text: "ef", headers: { "tensorwire-offset": "4" } });
    expect(await get(transfer, 0), "the first are kept until they were received").toMatchObject({
      text: "abcdef",
    });
    expect(await get(transfer, 2, { "tensorwire-from": "1" }), "received meanwhile").toMatchObject({
      text: "cdef",
      headers: { "tensorwire-offset": "2" },
    });
    expect((await get(transfer, 0, { "tensorwire-from": "7" })).status, "nobody has said 7").toBe(400);
    const next = get(transfer, 0, { "tensorwire-from": "6" });
    await channel.send([Buffer.from("ghi")]);
    expect(await next).toMatchObject({ text: "ghi", headers: { "tensorwire-offset": "6" } });
  });

  test("the second of two answers is read after the first, whichever comes first; a broken one takes it along", async () => {
    const froms: string[] = [];
    const held = new Set<ServerResponse>();
    const text = "0123456789".repeat(1000);
    let breaks = 1;
    const url = await serving(
      createServer((incoming, response) => {
        const { method, headers } = incoming;
        const answer = (from: number, body: string, last = false): void => {
          response.writeHead(200, {
            "tensorwire-offset": from,
            "tensorwire-received": 0,
            "content-length": body.length,
            ...(last && { "tensorwire-end": "complete" }),
          });
          response.flushHeaders();
          if (from > 0 || last) return void response.end(body);
          // The first is under way for longer than the second.
          response.write(body.slice(0, 10));
          held.add(response);
        };
        incoming.resume();
        if (method === "POST") {
          return void response
            .writeHead(201, { "content-type": TYPE, location: `/transfer?tensorwire=${"0".repeat(32)}` })
            .end();
        }
        if (method !== "GET") return void response.writeHead(method === "DELETE" ? 204 : 200).end();
        const from = Number(headers["tensorwire-from"]);
        froms.push(`${headers["tensorwire-received"]}+${from}`);
        if (from === 0) return answer(0, text.slice(0, 4000));
        if (from >= text.length) return answer(from, "", true);
        answer(from, text.slice(from, from + 4000));
        for (const first of held) {
          held.delete(first);
          if (breaks-- > 0) setTimeout(() => first.destroy(), 50);
          else setTimeout(() => first.end(text.slice(10, 4000)), 50);
        }
      }),
    );
    const channel = await dialHttp(url);
    closers.push(() => channel.close(new Error("the test is over")));
    let heard = "";
    const end = await new Promise((resolve) =>
      channel.open({ bytes: (portion) => void (heard += Buffer.from(portion).toString()), end: resolve }),
    );
    expect(end).toBeUndefined();
    expect(heard === text).toBe(true);
    expect(froms.slice(0, 3)).toEqual(["0+0", "0+4000", "10+10"]);
  });

  test("the answer to a PUT brings along what no GET has been given", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("abc")]);
    expect(await put(transfer, 0, "x")).toMatchObject({ text: "abc", headers: { "tensorwire-offset": "0" } });
    expect(await put(transfer, 1, "y", { "tensorwire-received": "0" })).toMatchObject({ text: "" });
    expect(await get(transfer, 0)).toMatchObject({ text: "abc" });
  });

  test("both directions end, and then nobody knows the URL", async () => {
    const { transfer, channel, heard } = await opened();
    await put(transfer, 0, "last", { "tensorwire-end": "complete" });
    expect(heard).toEqual({ text: "last", end: "orderly" });
    const left = channel.close();
    expect(await get(transfer, 0)).toMatchObject({ status: 200, headers: { "tensorwire-end": "complete" } });
    await left;
    expect(await ask(transfer, "DELETE", { "tensorwire-received": "0" })).toMatchObject({ status: 204 });
    for (const method of ["GET", "HEAD", "PUT", "DELETE"] as const) {
      expect(
        await ask(transfer, method, { "tensorwire-received": "0", "tensorwire-offset": "4" }),
      ).toMatchObject({
        status: 404,
      });
    }
  });

  test("a DELETE before the end drops the channel", async () => {
    const { transfer, heard } = await opened();
    await put(transfer, 0, "abc");
    await ask(transfer, "DELETE", { "tensorwire-received": "0" });
    expect(heard.end).toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("a peer is gone when an answer that it waits for cannot be given, and nothing else comes", async () => {
    // Over connections that were never meant to last: their end says nothing.
    const connection = "close";
    const { transfer, channel, heard } = await opened({ connection });
    const waiting = httpGet(transfer, {
      headers: { connection, "tensorwire-received": "0" },
      agent: false,
    }).on("error", () => {});
    await new Promise((resolve) => setTimeout(resolve, 100));
    waiting.destroy();
    while (!heard.end) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard.end).toMatchObject({ code: "CHANNEL_CLOSED" });
    await expect(channel.send([Buffer.from("x")])).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(await get(transfer, 0)).toMatchObject({ status: 404 });
  });

  test("what is no request of a channel is refused, and does nothing", async () => {
    const { transfer, heard } = await opened();
    for (const headers of [
      {},
      { "tensorwire-received": "-1" },
      { "tensorwire-received": "1" },
      { "tensorwire-received": "9".repeat(16) },
    ]) {
      expect(await ask(transfer, "GET", headers as Record<string, string>)).toMatchObject({ status: 400 });
    }
    for (const offset of ["", "-1", "1e3", "9".repeat(17)]) {
      const headers = { "tensorwire-received": "0", "tensorwire-offset": offset };
      expect(await ask(transfer, "PUT", headers, "abc")).toMatchObject({ status: 400 });
    }
    expect(await ask(transfer, "POST", { "tensorwire-received": "0" })).toMatchObject({ status: 405 });
    expect(heard).toEqual({ text: "" });
  });

  test("a connection that outlives many channels keeps nothing of them", async () => {
    const { url, server } = await mounted();
    const sockets: Socket[] = [];
    server.on("connection", (socket) => sockets.push(socket));
    const before: number[] = [];
    for (let i = 0; i < 20; i++) {
      const transfer = await created(url);
      expect((await ask(transfer, "DELETE", { "tensorwire-received": "0" })).status).toBe(204);
      before.push(Math.max(...sockets.map((socket) => socket.listenerCount("close"))));
    }
    expect(sockets.length).toBeLessThan(20);
    expect(before.at(-1)).toBe(before[0]);
  });

  test("more PUTs than a peer has under way are answered at once", async () => {
    const { transfer, heard } = await opened();
    const early = [1, 2, 3, 4].map((offset) => put(transfer, offset, "bcde"[offset - 1]!));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await put(transfer, 5, "f")).toMatchObject({ status: 409 });
    await put(transfer, 0, "a");
    for (const answer of await Promise.all(early)) expect(answer.status).toBe(200);
    expect(heard.text).toBe("abcde");
  });
});
