import { describe, expect, test } from "vitest";
import { aggregate, streamModel, type TensorwireError } from "../src/index.js";
import {
  arrivals,
  at,
  CODEC,
  described,
  ELEMENTS,
  firstValue,
  hasFolder,
  serving,
  update,
} from "./collection-fixture.js";

hasFolder();

describe("a round", () => {
  test("refuses what is another model, by its manifest", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 1, model: update() });
    const failed: [string, TensorwireError][] = [];
    round.on("failed", ({ client, error }) => failed.push([client, error]));
    const shape = [ELEMENTS / 2, 2];
    const data = new Float32Array(ELEMENTS);
    const send = (model: Parameters<typeof streamModel>[0], name = "r/ada") =>
      streamModel(model, server.urlOf(name), CODEC);
    const wrong = { code: "PEER_FAILED", peerCode: "SOURCE_MISMATCH" };
    await expect(send({ w: { dtype: "F32", shape, data } })).rejects.toMatchObject({
      ...wrong,
      message: expect.stringMatching(/w.* is F32 \[30000,2\], and should be F32 \[60000\]/),
    });
    await expect(send({ v: { dtype: "F32", shape, data } })).rejects.toMatchObject({
      ...wrong,
      message: expect.stringMatching(/it has no .*w.*; .*v.* is not in the model/),
    });
    await expect(send(described(1, { round: "another" }))).rejects.toMatchObject({
      ...wrong,
      message: expect.stringContaining("another"),
    });
    await expect(send(update(), "r/.ada")).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(failed.map(([client, { code }]) => [client, code])).toEqual(
      Array(3).fill(["ada", "SOURCE_MISMATCH"]),
    );
    expect(round.status()).toMatchObject({ state: "open", clients: [{ client: "ada", state: "failed" }] });
    await send(described(1, { round: "r" }));
    expect(await round.done).toMatchObject([{ client: "ada" }]);
  });

  test("bounds what a client takes of the disk, and all of them", async () => {
    const server = await serving({ limits: { maxSpoolBytes: 400_000 } });
    const round = await server.collect("r", { expect: 3, maxClientBytes: 300_000 });
    const big = { w: { dtype: "F32", shape: [80_000], data: new Float32Array(80_000) } } as const;
    const exact = { chunkBytes: CODEC.chunkBytes };
    await expect(streamModel(big, server.urlOf("r/ada"), exact)).rejects.toMatchObject({
      peerCode: "LIMIT_EXCEEDED",
    });
    await streamModel(update(), server.urlOf("r/bob"), exact);
    await expect(streamModel(update(), server.urlOf("r/carol"), exact)).rejects.toMatchObject({
      peerCode: "TARGET_FULL",
    });
    await streamModel(update(), server.urlOf("r/carol"), CODEC);
    expect(round.status().clients.map(({ client, state }) => [client, state])).toEqual([
      ["ada", "failed"],
      ["bob", "arrived"],
      ["carol", "arrived"],
    ]);
  });

  test("refuses an update with a value that is not finite as it arrives, packed or not", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 2 });
    const data = new Float32Array(ELEMENTS).fill(1);
    data[ELEMENTS - 1] = Number.NaN;
    for (const compress of ["never", "auto"] as const) {
      const sent = streamModel({ w: { ...update().w, data } }, server.urlOf("r/ada"), { ...CODEC, compress });
      await expect(sent).rejects.toMatchObject({ code: "PEER_FAILED", peerCode: "VALUE_NOT_FINITE" });
    }
    await expect.poll(() => arrivals("r")).toEqual([".round.lock"]);
    for (const client of ["ada", "bob"]) {
      await streamModel(update(), server.urlOf(`r/${client}`), { ...CODEC, compress: "auto" });
    }
    const models = await round.done;
    const mean = aggregate(Object.fromEntries(models.map((model) => [model.client, model.source()])));
    await streamModel(mean, at("mean.twire"), { codec: "float16" });
    expect(await firstValue(at("mean.twire"))).toBe(1);
    expect(models.map((model) => model.source().finite)).toEqual([true, true]);
    const taking = await server.collect("s", { expect: 1, nonFinite: "take" });
    await streamModel({ w: { ...update().w, data } }, server.urlOf("s/ada"), CODEC);
    expect((await taking.done)[0]!.source().finite).toBeUndefined();
  });
});
