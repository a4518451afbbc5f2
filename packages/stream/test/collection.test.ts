import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  aggregate,
  bearerTokens,
  type CollectOptions,
  createModelServer,
  fromTensors,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  streamModel,
  type TensorwireError,
  tensorsSource,
} from "../src/index.js";

const ELEMENTS = 60_000;
const update = (value = 1) => ({
  w: { dtype: "F32" as const, shape: [ELEMENTS], data: new Float32Array(ELEMENTS).fill(value) },
});
const described = (value: number, metadata: Record<string, string>) =>
  tensorsSource(update(value), { metadata: new Map(Object.entries(metadata)) });

let folder: string;
const closers: (() => unknown)[] = [];
const at = (...names: string[]): string => join(folder, ...names);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-collect-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer({ uploads: folder, ...options });
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  return server;
}

const CODEC = { codec: "normfloat4", chunkBytes: 32768 };

/** An upload that stops half way, until the rest is let go. */
function halfway(value = 1) {
  let release!: () => void;
  const rest = new Promise<void>((resolve) => {
    release = resolve;
  });
  const shape = [ELEMENTS];
  const tensors = async function* () {
    const tensor = { dtype: "F32" as const, shape, data: new Float32Array(ELEMENTS).fill(value) };
    yield { name: "a", ...tensor };
    await rest;
    yield { name: "w", ...tensor };
  };
  const infos = ["a", "w"].map((name) => ({ name, dtype: "F32" as const, shape }));
  return { source: () => fromTensors(infos, tensors()), release };
}

/** Names in a round's folder, but for what its record is. */
async function arrivals(round: string): Promise<string[]> {
  return (await readdir(at(round))).filter((name) => name !== ".round.json").sort();
}

async function firstValue(path: string): Promise<number> {
  let first: number | undefined;
  for await (const { data } of receiveModel(path)) first ??= new Float32Array(data.slice().buffer)[0]!;
  return first!;
}

describe("a round", () => {
  test("is complete when everybody has arrived, each as the artifact that it sent", async () => {
    const server = await serving();
    const round = await server.collect("round-7", { expect: 3, model: update() });
    const seen: string[] = [];
    round.on("arrived", ({ client }) => seen.push(client));
    const sent = await Promise.all(
      ["carol", "ada", "bob"].map((client, i) =>
        streamModel(
          described(i + 1, { num_examples: `${10 * i}` }),
          server.urlOf(`round-7/${client}`),
          CODEC,
        ),
      ),
    );
    const models = await round.done;
    expect(models.map(({ client }) => client)).toEqual(["ada", "bob", "carol"]);
    expect(models.map(({ metadata }) => metadata.get("num_examples"))).toEqual(["10", "20", "0"]);
    expect(models.map(({ digest }) => digest)).toEqual([1, 2, 0].map((i) => sent[i]!.digest));
    expect(models[0]!.path).toBe(at("round-7", "ada.twire"));
    expect(await firstValue(models[0]!.path)).toBeCloseTo(2);
    expect(models[0]!.bytes).toBeLessThan((ELEMENTS * 4) / 6);
    const source = models[0]!.source();
    expect(await source.open()).toMatchObject({ tensors: [{ name: "w" }] });
    await source.close();
    expect(seen.sort()).toEqual(["ada", "bob", "carol"]);
    expect(round.status()).toMatchObject({ state: "complete", arrived: 3 });
    // Whoever comes too late hears of it, and does not land among other uploads.
    await expect(streamModel(update(), server.urlOf("round-7/dave"))).rejects.toMatchObject({
      code: "FORBIDDEN",
      message: expect.stringContaining("is over"),
    });
    expect(await arrivals("round-7")).toEqual(["ada.twire", "bob.twire", "carol.twire"]);
  });

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

  test("leaves stragglers out at its deadline, where there is a quorum", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 3, quorum: 1, deadline: 1500 });
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    const { source, release } = halfway();
    const straggler = streamModel(source(), server.urlOf("r/bob"), CODEC);
    straggler.catch(() => {});
    await expect
      .poll(() => round.status().clients.find(({ client }) => client === "bob"))
      .toMatchObject({ state: "arriving", percent: 50 });
    expect(await round.done).toMatchObject([{ client: "ada" }]);
    release();
    await expect(straggler).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("its deadline has passed"),
    });
    expect(await arrivals("r")).toEqual(["ada.twire"]);
  });

  test("without a quorum at its deadline is an error that says who was missed", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: ["ada", "bob"], deadline: new Date(Date.now() + 800) });
    await expect(streamModel(update(), server.urlOf("r/eve"))).rejects.toMatchObject({ code: "FORBIDDEN" });
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    await expect(round.done).rejects.toMatchObject({
      code: "QUORUM_MISSED",
      retryable: true,
      message: expect.stringContaining("1 of the 2"),
    });
    expect(round.status().state).toBe("failed");
    // What has arrived counts when it is collected again.
    const again = await server.collect("r", { expect: ["ada", "bob"] });
    await streamModel(update(), server.urlOf("r/bob"), CODEC);
    expect(await again.done).toMatchObject([{ client: "ada" }, { client: "bob" }]);
  });

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

  test("two rounds do not mix, and one is collected once at a time", async () => {
    const server = await serving();
    const rounds = await Promise.all(["r/1", "r/2"].map((name) => server.collect(name, { expect: 1 })));
    await expect(server.collect("r/1", { expect: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const other = await serving();
    await expect(other.collect("r/1", { expect: 1 })).rejects.toMatchObject({ code: "TARGET_BUSY" });
    await streamModel(update(2), server.urlOf("r/2/ada"), CODEC);
    expect(await rounds[1]!.done).toMatchObject([{ path: at("r", "2", "ada.twire") }]);
    expect(rounds[0]!.status()).toMatchObject({ state: "open", arrived: 0 });
    await server.close({ signal: AbortSignal.abort() });
    await expect(rounds[0]!.done).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("the server was closed"),
    });
  });

  test("options that cannot be meant are refused", async () => {
    const server = await serving();
    for (const options of [
      { expect: 0 },
      { expect: [] },
      { expect: 2, quorum: 3 },
      { expect: 1, deadline: 0 },
      { expect: 1, deadline: new Date(0) },
      { expect: 1, maxClientBytes: 0 },
      { expect: 1, duplicate: "keep" },
      { expect: 1, memoryBytes: -1 },
      { expect: 1, form: { chunkBytes: 0.5 } },
      { expect: 1, form: { examples: "some" } },
    ] as CollectOptions[]) {
      await expect(server.collect("r", options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    const bare = await createModelServer();
    closers.push(() => bare.close());
    await expect(bare.collect("r", { expect: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
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
