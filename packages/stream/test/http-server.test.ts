import { once } from "node:events";
import { type Channel, type ErrorCode, TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { dialHttp, receiveModel } from "../src/index.js";
import { ask, closers, created, listening, mounted, nowhere, put, TYPE } from "./http-fixture.js";

describe("a server of HTTP channels", () => {
  test("leaves alone what is none of theirs", async () => {
    const { url } = await mounted();
    for (const [method, headers] of [
      ["GET", {}],
      ["POST", {}],
      ["POST", { "content-type": "application/json" }],
      ["PUT", { "tensorwire-offset": "0" }],
    ] as const) {
      expect(await ask(url, method, headers)).toMatchObject({ status: 200, text: "something else" });
    }
  });

  test("keeps the query that it was asked with", async () => {
    const { url } = await mounted();
    const transfer = new URL(await created(`${url}/deep/er?site=3&x=a%20b`));
    expect(transfer.pathname).toBe("/deep/er");
    expect([transfer.searchParams.get("site"), transfer.searchParams.get("x")]).toEqual(["3", "a b"]);
    expect(transfer.searchParams.get("tensorwire")).toMatch(/^[0-9a-f]{32}$/);
  });

  test("knows a transfer URL only together with the credential that it was made with", async () => {
    const { url, channels } = await mounted();
    const authorization = "Bearer secret";
    const transfer = await created(url, { authorization });
    channels[0]!.open({ bytes: () => {}, end: () => {} });
    for (const other of [{}, { authorization: "Bearer other" }]) {
      expect(await put(transfer, 0, "abc", other as Record<string, string>)).toMatchObject({ status: 404 });
    }
    expect(await put(transfer, 0, "abc", { authorization })).toMatchObject({ status: 200 });
    const wrong = transfer.replace(/[0-9a-f]$/, (digit) => (digit === "0" ? "1" : "0"));
    expect(await put(wrong, 0, "abc", { authorization })).toMatchObject({ status: 404 });
  });

  test("has so many channels and no more, and room again when one is over", async () => {
    const { url, channels } = await mounted({}, { maxChannels: 2 });
    await created(url);
    const second = await created(url);
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "SERVER_BUSY", retryable: true });
    for (const channel of channels) channel.open({ bytes: () => {}, end: () => {} });
    await ask(second, "DELETE", { "tensorwire-received": "0" });
    await created(url);
  });

  test("turns a peer away while its visitors are full", async () => {
    const { url } = await mounted({ full: true });
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
  });

  test.each([
    ["UNAUTHORIZED", 401],
    ["FORBIDDEN", 403],
    ["NOT_FOUND", 404],
    ["SERVER_BUSY", 503],
  ] as [ErrorCode, number][])(
    "answers %s with %d, and the client has the code again",
    async (code, status) => {
      const admit = async (): Promise<void> => {
        throw new TensorwireError(code, "not you");
      };
      const { url, channels } = await mounted({ admit });
      expect(await ask(url, "POST", { "content-type": TYPE })).toMatchObject({ status, text: "" });
      await expect(dialHttp(url)).rejects.toMatchObject({ code });
      await expect(receiveModel(url, { to: nowhere }).done).rejects.toMatchObject({ code });
      expect(channels).toEqual([]);
    },
  );

  test("says who comes, for HTTP and for WebSockets", async () => {
    const seen: unknown[] = [];
    const { url } = await mounted({ admit: (peer) => void seen.push(peer) });
    await created(`${url}/models/a?b`, { authorization: "Bearer abc.def" });
    await created(url, { "x-forwarded-for": "10.0.0.1" });
    await created(url, { "x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https" });
    const address = expect.stringMatching(/^127\.0\.0\.1:\d+$/);
    expect(seen).toEqual([
      { address, credential: "abc.def", path: "/models/a", query: "b", private: true },
      { address, path: "/", forwarded: true, private: false },
      { address, path: "/", forwarded: true, private: true },
    ]);
    const listener = await listening("ws://127.0.0.1:0");
    const taken = new AbortController();
    const accepted = new Promise<Channel>((resolve) => void listener.each(resolve, taken.signal));
    const socket = new WebSocket(`${listener.url}/m?x`, { headers: { authorization: "bearer token" } });
    closers.push(() => socket.terminate());
    await once(socket, "open");
    expect((await accepted).peer).toEqual({
      address,
      credential: "token",
      path: "/m",
      query: "x",
      private: true,
    });
    taken.abort();
  });
});
