import { describe, expect, test } from "vitest";
import {
  bearerTokens,
  createModelServer,
  receiveModel,
  streamModel,
  type TensorwireError,
} from "../src/index.js";
import { at, fetched, fetching, hasFolder, held, model, serving, until } from "./model-server-fixture.js";

hasFolder();

describe("limits", () => {
  const all = { publish: true, fetch: true };
  const tokens = { one: { token: "one", ...all }, two: { token: "two", ...all } };

  test("one more transfer than a peer may have, or than there may be, is SERVER_BUSY, and has its turn later", async () => {
    const limits = { maxTransfers: 3, maxPeerTransfers: 2 };
    const server = await serving({ limits, authorize: await bearerTokens(tokens) });
    server.publish("m", model());
    const url = server.urlOf("m");
    const ones = [await fetching(url, "one"), await fetching(url, "one")];
    // Whatever the channel, and wherever it comes from: a peer is its principal.
    for (const from of [url, url.replace("ws:", "http:")]) {
      await expect(fetched(from, "one")).rejects.toMatchObject({ code: "SERVER_BUSY", retryable: true });
    }
    const two = await fetching(url, "two");
    await expect(fetched(url, "two")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect(server.transfers).toBe(3);
    for (const { release, done } of [...ones, two]) {
      release();
      await done;
    }
    await until(() => server.transfers === 0);
    expect(await fetched(url, "one")).toEqual({ w: 1 });
  });

  test("a peer without a name is its address", async () => {
    const server = await serving({ limits: { maxPeerTransfers: 1 } });
    server.publish("m", model());
    const { done, release } = await fetching(server.urlOf("m"));
    await expect(fetched(server.urlOf("m"))).rejects.toMatchObject({ code: "SERVER_BUSY" });
    release();
    await done;
  });

  test("more bytes than a peer may send at once are SERVER_BUSY; more than it ever may, LIMIT_EXCEEDED", async () => {
    const { sink, release } = held();
    const sinks = [sink];
    const server = await serving({
      limits: { maxPeerBytes: 6000 },
      onReceive: () => sinks.shift() ?? held().sink,
      authorize: await bearerTokens(tokens),
    });
    const send = (name: string, token: string, elements = 1000) =>
      streamModel(
        { w: { dtype: "F32", shape: [elements], data: new Float32Array(elements) } },
        server.urlOf(name),
        { dial: { token } },
      );
    await expect(send("large", "one", 2000)).rejects.toMatchObject({ peerCode: "LIMIT_EXCEEDED" });
    const first = send("first", "one");
    await until(() => sinks.length === 0);
    await expect(send("second", "one")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    release();
    await first;
    await until(() => server.transfers === 0);
  });

  test("one connection more than there may be is SERVER_BUSY", async () => {
    const server = await serving({ limits: { maxConnections: 2, maxPeerTransfers: 9 } });
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    for (const from of [url, url.replace("ws:", "http:")]) {
      await expect(fetched(from)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    }
    for (const { release, done } of under) {
      release();
      await done;
    }
  });

  test("are what `retry` waits for, wherever the server says so", async () => {
    for (const limits of [{ maxConnections: 1 }, { maxPeerTransfers: 1 }]) {
      const server = await serving({ limits });
      server.publish("m", model());
      const url = server.urlOf("m");
      const { done, release } = await fetching(url);
      const waits: string[] = [];
      const retry = {
        initialDelayMs: 5,
        maxDelayMs: 50,
        attempts: 1000,
        onRetry: ({ error }: { error: TensorwireError }) => void waits.push(error.code),
      };
      const second = receiveModel(url, { to: at(`busy-${Object.keys(limits)}`), retry }).done;
      await until(() => waits.length > 2);
      release();
      await Promise.all([done, second]);
      expect(new Set(waits)).toEqual(new Set(["SERVER_BUSY"]));
    }
  });

  test("that are none are arguments at fault", async () => {
    for (const limits of [{ maxTransfers: 0 }, { maxPeerBytes: 1.5 }, { maxModels: 3 } as object]) {
      await expect(createModelServer({ limits })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    for (const prefix of ["models", "/a b/", "/a?/", "//"]) {
      await expect(createModelServer({ prefix }), prefix).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });
});
