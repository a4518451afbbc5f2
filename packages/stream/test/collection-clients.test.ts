import { describe, expect, test } from "vitest";
import { bearerTokens, streamModel } from "../src/index.js";
import {
  at,
  CODEC,
  ELEMENTS,
  firstValue,
  halfway,
  hasFolder,
  serving,
  update,
} from "./collection-fixture.js";

hasFolder();

describe("a round", () => {
  test("knows clients by their principals, and keeps to what they may", async () => {
    const server = await serving({
      authorize: await bearerTokens({ "site-a": { token: "a", publish: ["r/*"] } }),
    });
    const round = await server.collect("r", { expect: 1 });
    await streamModel(update(), server.urlOf("r/whoever"), { dial: { token: "a" } });
    expect(await round.done).toMatchObject([{ client: "site-a", path: at("r", "site-a.twire") }]);
  });

  test("takes one model of a client, whose receipt may have been lost", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 2 });
    const url = server.urlOf("r/ada");
    const first = await streamModel(update(1), url, CODEC);
    const second = await streamModel(update(1), url, CODEC);
    expect(second).toMatchObject({ digest: first.digest, resumedBytes: ELEMENTS * 4 });
    await expect(streamModel(update(2), url, CODEC)).rejects.toMatchObject({ code: "PEER_FAILED" });
    expect(await firstValue(at("r", "ada.twire"))).toBeCloseTo(1);
    expect(round.status()).toMatchObject({ arrived: 1, clients: [{ client: "ada", state: "arrived" }] });
    await round.close();
    await expect(round.done).rejects.toMatchObject({ code: "ABORTED" });
    const replacing = await server.collect("r", { expect: 2, duplicate: "replace" });
    await streamModel(update(2), url, CODEC);
    expect(await firstValue(at("r", "ada.twire"))).toBeCloseTo(2);
    expect(replacing.status().arrived).toBe(1);
  });

  test("takes a client that comes again in the place of a connection that nobody has missed", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 1 });
    const { source, release } = halfway();
    const first = streamModel(source(), server.urlOf("r/ada"), CODEC);
    first.catch(() => {});
    await expect.poll(() => round.status().clients[0]?.percent).toBe(50);
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    release();
    await expect(first).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("connected again"),
    });
    expect(await round.done).toMatchObject([{ client: "ada" }]);
  });

  test("counts what it has collected, and no file that came there otherwise", async () => {
    const server = await serving();
    await streamModel(update(), server.urlOf("r/bob.twire"), CODEC);
    const first = await server.collect("r", { expect: 2, model: update() });
    expect(first.status().clients).toEqual([]);
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    await first.close();
    await expect(server.collect("r", { expect: 2, model: { v: update().w } })).rejects.toMatchObject({
      code: "SOURCE_MISMATCH",
      message: expect.stringContaining("ada.twire"),
    });
    const again = await server.collect("r", { expect: 2, model: update() });
    expect(again.status()).toMatchObject({ arrived: 1, clients: [{ client: "ada" }] });
    const { digest } = await streamModel(update(3), server.urlOf("r/bob"), CODEC);
    expect(await again.done).toMatchObject([{ client: "ada" }, { client: "bob", digest }]);
    expect(await firstValue(at("r", "bob.twire"))).toBeCloseTo(3);
  });

  test("remembers clients by any name that they may have", async () => {
    const server = await serving();
    const names = ["__proto__", "constructor"];
    const first = await server.collect("r", { expect: 3 });
    for (const name of names) await streamModel(update(), server.urlOf(`r/${name}`), CODEC);
    await first.close();
    const again = await server.collect("r", { expect: 3 });
    expect(again.status().clients.map(({ client, state }) => [client, state])).toEqual(
      names.map((name) => [name, "arrived"]),
    );
  });
});
