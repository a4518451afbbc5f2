import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  bearerTokens,
  createModelServer,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  type ServedTransfer,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { makeModel } from "./cli-process.js";

const model = (value = 1): TensorMap => ({
  w: { dtype: "F32", shape: [1000], data: new Float32Array(1000).fill(value) },
});

let folder: string;
const closers: (() => unknown)[] = [];
const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-server-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer(options);
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  return server;
}

/** What the model of that URL holds: the first value of each tensor. */
async function fetched(url: string, token?: string): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for await (const { name, data } of receiveModel(url, { dial: { token } })) {
    values[name] = new Float32Array(data.slice().buffer)[0]!;
  }
  return values;
}

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

const TOKENS = {
  reader: { token: "read-me", fetch: ["public/*"] },
  site: { token: "site-token", publish: ["site/*"] },
};

describe("who may do what", () => {
  test("a token gives the rights of its principal, and no others", async () => {
    const server = await serving({ uploads: folder, authorize: await bearerTokens(TOKENS) });
    server.publish("public/a", model());
    server.publish("private", model());
    const { url } = server;
    expect(await fetched(`${url}public/a`, "read-me")).toEqual({ w: 1 });
    await expect(fetched(`${url}public/a`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}public/a`, "wrong")).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}private`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    // Whether there is one is not said to whoever has no right to it.
    await expect(fetched(`${url}nothing`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(fetched(`${url}public/b`, "read-me")).rejects.toMatchObject({ code: "NOT_FOUND" });
    const send = (name: string, token: string) => streamModel(model(), url + name, { dial: { token } });
    await expect(send("site/x", "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("other/x", "site-token")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("site/x", "site-token")).resolves.toMatchObject({ confirmed: true });
    expect(await readdir(at("site"))).toEqual(["x"]);
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
