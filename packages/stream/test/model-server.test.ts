import { readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { bearerTokens, createModelServer, type ServedTransfer, streamModel } from "../src/index.js";
import { makeModel } from "./cli-process.js";
import { at, fetched, folder, hasFolder, model, serving, until } from "./model-server-fixture.js";

hasFolder();

describe("a model server", () => {
  test("gives each receiver the model that it asks for by name", async () => {
    const server = await serving();
    server.publish("one", model(1));
    server.publish("two/of it", () => model(2), { codec: "float16", minElements: 0 });
    expect(server.names).toEqual(["one", "two/of it"]);
    expect(server.url).toMatch(/^ws:\/\/127\.0\.0\.1:\d+\/models\/$/);
    expect(server.urlOf("two/of it")).toBe(`${server.url}two/of%20it`);
    const all = await Promise.all([
      fetched(server.urlOf("one")),
      fetched(server.urlOf("two/of it")),
      fetched(server.urlOf("one")),
    ]);
    expect(all).toEqual([{ w: 1 }, { w: 2 }, { w: 1 }]);
    expect(server.unpublish("one")).toBe(true);
    await expect(fetched(server.urlOf("one"))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("writes uploads into its folder, by their names", async () => {
    const server = await serving({ uploads: folder });
    const transfers: ServedTransfer[] = [];
    server.on("transfer", (transfer) => transfers.push(transfer));
    await makeModel(at("source.safetensors"), [{ name: "w", dtype: "F32", shape: [50, 1000] }]);
    await streamModel(at("source.safetensors"), server.urlOf("site-1/round-1.safetensors"));
    const [copy, source] = await Promise.all(
      ["site-1/round-1.safetensors", "source.safetensors"].map((name) => readFile(at(name))),
    );
    expect(copy!.equals(source!)).toBe(true);
    expect(transfers).toMatchObject([{ id: 1, direction: "upload", name: "site-1/round-1.safetensors" }]);
    expect((await transfers[0]!.done).confirmed).toBe(true);
    expect(await readdir(at("site-1"))).toEqual(["round-1.safetensors"]);
  });
});

describe("one port", () => {
  test("speaks WebSocket and HTTP, and gives a plain GET an artifact", async () => {
    const server = await serving({
      uploads: folder,
      authorize: await bearerTokens({ all: { token: "t", publish: true, fetch: true } }),
    });
    server.publish("a", model(3));
    server.publish("a.twire", model(4), { codec: "float16", minElements: 0 });
    const http = server.url.replace("ws:", "http:");
    const dial = { token: "t" };
    expect(await fetched(`${http}a`, "t")).toEqual({ w: 3 });
    expect(await fetched(`${http}a.twire`, "t")).toEqual({ w: 4 });
    await expect(fetched(`${http}a.twire`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${http}a`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${http}b`, "t")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(fetched(`${http}b.twire`, "t")).rejects.toMatchObject({ code: "NOT_FOUND" });
    const sent = await streamModel(model(5), `${http}up.twire`, { dial });
    expect(sent.confirmed).toBe(true);
    expect(await fetched(at("up.twire"))).toEqual({ w: 5 });
  });
});

describe("many at once", () => {
  test("receivers and uploads, over both channels, get what is theirs", async () => {
    const server = await serving({ uploads: folder, limits: { maxPeerTransfers: 64 } });
    for (let i = 0; i < 4; i++) server.publish(`m${i}`, model(i));
    const http = (url: string) => url.replace("ws:", "http:");
    const fetches = Array.from({ length: 24 }, async (_, i) => {
      const url = server.urlOf(`m${i % 4}`);
      expect(await fetched(i % 3 ? url : http(url))).toEqual({ w: i % 4 });
    });
    const uploads = Array.from({ length: 16 }, async (_, i) => {
      const url = server.urlOf(`up/${i}.twire`);
      await streamModel(model(100 + i), i % 3 ? url : http(url));
      expect(await fetched(at(`up/${i}.twire`))).toEqual({ w: 100 + i });
    });
    await Promise.all([...fetches, ...uploads]);
    await until(() => server.transfers === 0);
    expect((await readdir(at("up"))).length).toBe(16);
  });
});

describe("an upload that is interrupted", () => {
  test.each(["ws:", "http:"])(
    "over %s goes on where it was, when the same model is sent to the same name",
    async (scheme) => {
      const server = await serving({ uploads: folder });
      await makeModel(at("source.safetensors"), [{ name: "w", dtype: "F32", shape: [4096, 1024] }]);
      const url = server.urlOf("site/m.safetensors").replace("ws:", scheme);
      const stop = new AbortController();
      const options = { chunkBytes: 1 << 18, windowBytes: 1 << 21 };
      const sent = streamModel(at("source.safetensors"), url, {
        ...options,
        signal: stop.signal,
        onProgress: ({ acknowledgedBytes }) => acknowledgedBytes > 6e6 && stop.abort(),
        maxBytesPerSecond: 3e7,
      });
      await expect(sent).rejects.toMatchObject({ code: "ABORTED" });
      await until(() => server.transfers === 0);
      // Nobody has it before it is whole, and it is no model that is served.
      expect((await readdir(at("site"))).sort()).toEqual([
        "m.safetensors.part",
        "m.safetensors.part.journal",
      ]);
      const summary = await streamModel(at("source.safetensors"), url, options);
      expect(summary.resumedBytes).toBeGreaterThan(3e6);
      expect(await readdir(at("site"))).toEqual(["m.safetensors"]);
      expect(
        (await readFile(at("site/m.safetensors"))).equals(await readFile(at("source.safetensors"))),
      ).toBe(true);
    },
  );
});

test("a server whose upload folder does not exist says so before it listens", async () => {
  await expect(
    createModelServer({ port: 0, uploads: join(tmpdir(), "tensorwire-none", "rounds") }),
  ).rejects.toMatchObject({
    code: "TARGET_WRITE",
    message: expect.stringMatching(/there is no folder ".*rounds" to take models into: create it/),
  });
});
