import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import {
  bearerTokens,
  fromTensors,
  type Refusal,
  receiveModel,
  type ServedTransfer,
  streamModel,
  TensorwireError,
} from "../src/index.js";
import { at, closers, fetched, folder, hasFolder, model, serving, until } from "./model-server-fixture.js";

hasFolder();

describe("an owner", () => {
  test("says where a model goes by what it is and who sends it, or refuses it", async () => {
    const seen: unknown[] = [];
    const server = await serving({
      uploads: folder,
      authorize: await bearerTokens({ site: { token: "t", publish: true } }),
      onReceive: (origin, manifest, peer) => {
        seen.push([origin.name, manifest.tensors[0]!.name, peer.principal?.name, Object.keys(peer).sort()]);
        if (origin.name === "thrown") throw new Error("the owner's own affair");
        if (origin.name === "busy") throw new TensorwireError("SERVER_BUSY", "not now");
        return origin.name === "refused" ? undefined : `of-${peer.principal!.name}/${origin.name}.twire`;
      },
    });
    const send = (name: string) => streamModel(model(9), server.urlOf(name), { dial: { token: "t" } });
    await send("a");
    expect(await fetched(at("of-site/a.twire"))).toEqual({ w: 9 });
    await expect(send("refused")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("busy")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    const thrown = await send("thrown").catch((error) => error);
    expect([thrown.code, thrown.message]).toEqual(["FORBIDDEN", expect.not.stringContaining("affair")]);
    expect(seen[0]).toEqual(["a", "w", "site", ["address", "path", "principal", "private", "subject"]]);
  });

  test("hears of transfers and refusals, and of no credential", async () => {
    const server = await serving({ authorize: await bearerTokens({ a: { token: "sEcReT", fetch: ["m"] } }) });
    server.publish("m", model());
    const transfers: ServedTransfer[] = [];
    const refusals: Refusal[] = [];
    server.on("transfer", (transfer) => transfers.push(transfer));
    server.on("refused", (refusal) => refusals.push(refusal));
    await fetched(server.urlOf("m"), "sEcReT");
    for (const [name, token] of [
      ["m", "sEcReT-not"],
      ["n", "sEcReT"],
      ["CON", "sEcReT"],
    ]) {
      await fetched(server.url + name, token).catch(() => {});
    }
    await until(() => refusals.length === 3);
    expect(transfers).toMatchObject([
      { id: 1, direction: "fetch", name: "m", peer: { principal: { name: "a" } } },
    ]);
    expect((await transfers[0]!.done).sourceBytes).toBe(4000);
    expect(refusals.map(({ error }) => error.code)).toEqual(["UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND"]);
    expect(inspect([transfers, refusals], { depth: 9 })).not.toContain("sEcReT");
  });

  test("finds models that nobody published, when they are asked for", async () => {
    const server = await serving({
      find: async (name) => (name === "later" ? { options: {}, open: () => model(6) } : undefined),
    });
    expect(await fetched(server.urlOf("later"))).toEqual({ w: 6 });
    await expect(fetched(server.urlOf("never"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(server.names).toEqual([]);
  });

  test("publishes what can be opened for each receiver, and nothing else", async () => {
    const server = await serving();
    const once = fromTensors([{ name: "w", dtype: "F32", shape: [1] }], []);
    expect(() => server.publish("once", once)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    server.publish("gone", at("gone.safetensors"));
    server.publish("broken", () => {
      throw new Error(`${folder} is the owner's own affair`);
    });
    for (const name of ["gone", "broken"]) {
      const error = await fetched(server.urlOf(name)).catch((error) => error);
      expect(error).toMatchObject({ code: "PEER_FAILED", peerCode: "SOURCE_READ" });
      expect(error.message).not.toContain(folder);
    }
    expect(await until(() => server.transfers === 0)).toBe(undefined);
  });

  test("serves peers that do not say what they came for: what is published is sent, what is not is taken", async () => {
    const server = await serving({ uploads: folder });
    server.publish("m", model(2));
    const open = (name: string): WebSocket => {
      const socket = new WebSocket(server.urlOf(name));
      closers.push(() => socket.terminate());
      return socket;
    };
    const names: string[] = [];
    for await (const { name } of receiveModel(open("m"))) names.push(name);
    expect(names).toEqual(["w"]);
    await streamModel(model(3), open("up.twire"));
    expect(await fetched(at("up.twire"))).toEqual({ w: 3 });
  });
});
