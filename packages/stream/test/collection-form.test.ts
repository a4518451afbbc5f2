import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  aggregate,
  type Collection,
  createModelServer,
  fromTensors,
  MemoryBudget,
  type ModelServer,
  type ModelServerOptions,
  type StreamOptions,
  streamModel,
  tensorsSource,
} from "../src/index.js";

const ELEMENTS = 60_000;
const tensor = { dtype: "F32" as const, shape: [ELEMENTS], data: new Float32Array(ELEMENTS).fill(1) };
const described = (metadata: Record<string, string> = {}) =>
  tensorsSource({ w: tensor }, { metadata: new Map(Object.entries(metadata)) });
const CODEC = { codec: "normfloat4", chunkBytes: 65536 } satisfies StreamOptions;

let folder: string;
const servers: ModelServer[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-form-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close({ signal: AbortSignal.abort() });
  await rm(folder, { recursive: true });
});

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer({ uploads: folder, ...options });
  servers.push(server);
  return server;
}

/** An upload whose last part waits until it is let go. */
function halfway(metadata: Record<string, string>) {
  let release!: () => void;
  const rest = new Promise<void>((resolve) => {
    release = resolve;
  });
  const infos = ["a", "w"].map((name) => ({ name, dtype: tensor.dtype, shape: tensor.shape }));
  const tensors = async function* () {
    yield { name: "a", ...tensor };
    await rest;
    yield { name: "w", ...tensor };
  };
  const source = fromTensors(infos, tensors(), { metadata: new Map(Object.entries(metadata)) });
  return { source, release };
}

async function meanOf(round: Collection): Promise<void> {
  const models = await round.done;
  const mean = aggregate(Object.fromEntries(models.map((model) => [model.client, model.source()])));
  await streamModel(mean, join(folder, "mean.twire"), { codec: "float16", overwrite: true });
}

describe("updates of another form than the others", () => {
  test.each([
    [
      "chunks",
      {},
      { ...CODEC, chunkBytes: 32768 },
      "SOURCE_MISMATCH",
      /chunkBytes 65536.*windowBytes of 131072.*smaller window/,
    ],
    [
      "a smaller window",
      {},
      { codec: "normfloat4", windowBytes: 65536 },
      "SOURCE_MISMATCH",
      /chunkBytes 65536/,
    ],
    [
      "a base",
      { "tensorwire.base": "b".repeat(16) },
      CODEC,
      "BASE_MISMATCH",
      /bbbb.*no base.*the round began with/,
    ],
    ["examples", { num_examples: "3" }, CODEC, "SOURCE_MISMATCH", /send it without/],
    ["no number", { num_examples: "many" }, CODEC, "SOURCE_MISMATCH", /many.*decimal number/],
  ] as const)(
    "by %s are refused by their manifest, and the round goes on",
    async (_, metadata, options, peerCode, words) => {
      const server = await serving();
      const round = await server.collect("r", { expect: 2 });
      await streamModel(described(), server.urlOf("r/ada"), CODEC);
      await expect(streamModel(described(metadata), server.urlOf("r/bob"), options)).rejects.toMatchObject({
        code: "PEER_FAILED",
        peerCode,
        message: expect.stringMatching(words),
      });
      await streamModel(described(), server.urlOf("r/bob"), CODEC);
      await meanOf(round);
    },
  );

  test("without the number of examples that the others have, or with none", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 3 });
    await streamModel(described({ num_examples: "5" }), server.urlOf("r/ada"), CODEC);
    await expect(streamModel(described(), server.urlOf("r/bob"), CODEC)).rejects.toMatchObject({
      message: expect.stringContaining("send it with them"),
    });
    await streamModel(described({ num_examples: "5" }), server.urlOf("r/bob"), CODEC);
    // Such a client is left out by the mean, which needs no other word for it.
    await streamModel(described({ num_examples: "0" }), server.urlOf("r/carol"), CODEC);
    await meanOf(round);
  });

  test("are measured by what the owner asks for, whoever comes first", async () => {
    const server = await serving();
    const form = { chunkBytes: 65536, base: "b", examples: "required" } as const;
    const round = await server.collect("r", { expect: 1, form });
    const send = (metadata: Record<string, string>, options: typeof CODEC = CODEC) =>
      streamModel(described(metadata), server.urlOf("r/ada"), options);
    const whole = { num_examples: "1", "tensorwire.base": "b" };
    await expect(send(whole, { ...CODEC, chunkBytes: 32768 })).rejects.toThrow(/chunkBytes 65536/);
    await expect(send({ num_examples: "1" })).rejects.toThrow(/no base/);
    await expect(send({ "tensorwire.base": "b" })).rejects.toThrow(/num_examples/);
    await send(whole);
    await meanOf(round);
    const any = await server.collect("s", { expect: 2, form: { examples: "any" } });
    await streamModel(described({ num_examples: "many" }), server.urlOf("s/ada"), CODEC);
    await streamModel(described(), server.urlOf("s/bob"), CODEC);
    expect(await any.done).toHaveLength(2);
  });

  test("are refused as they end, where the other one has come first meanwhile", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 2 });
    const { source, release } = halfway({ num_examples: "1" });
    const late = streamModel(source, server.urlOf("r/bob"), CODEC);
    late.catch(() => {});
    await expect.poll(() => round.status().clients[0]?.percent).toBe(50);
    await streamModel(described(), server.urlOf("r/ada"), CODEC);
    release();
    await expect(late).rejects.toMatchObject({ peerCode: "SOURCE_MISMATCH" });
    await expect
      .poll(() => round.status())
      .toMatchObject({ arrived: 1, clients: [{ client: "ada" }, { state: "failed" }] });
    // A killed server measures by what it had.
    await round.close();
    const again = await server.collect("r", { expect: 2 });
    await expect(
      streamModel(described({ num_examples: "1" }), server.urlOf("r/bob"), CODEC),
    ).rejects.toMatchObject({ peerCode: "SOURCE_MISMATCH" });
    await streamModel(described(), server.urlOf("r/bob"), CODEC);
    await meanOf(again);
  });
});

test("what clients of an earlier process have left unfinished counts for the disk", async () => {
  await mkdir(join(folder, "r"));
  await writeFile(join(folder, "r", "gone.twire.part"), new Uint8Array(300_000));
  const server = await serving({ limits: { maxSpoolBytes: 320_000 } });
  const round = await server.collect("r", { expect: 2 });
  const send = (name: string) => streamModel(described(), server.urlOf(`${name}/ada`), CODEC);
  await expect(send("r")).rejects.toMatchObject({ peerCode: "TARGET_FULL" });
  await round.close();
  await server.collect("s", { expect: 2 });
  await send("s");
});

describe("memory of a round", () => {
  test("is shared by all its uploads, whatever the server has beside", async () => {
    const budget = new MemoryBudget(64 * 2 ** 20);
    const server = await serving({ budget });
    const memoryBytes = 1_000_000;
    const round = await server.collect("r", { expect: 12, memoryBytes });
    let most = 0;
    const look = setInterval(() => {
      most = Math.max(most, budget.reservedBytes);
    }, 1);
    const clients = Array.from({ length: 12 }, (_, i) => `client-${i}`);
    await Promise.all(clients.map((client) => streamModel(described(), server.urlOf(`r/${client}`), CODEC)));
    clearInterval(look);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(memoryBytes);
    expect(await round.done).toHaveLength(12);
    await expect.poll(() => budget.reservedBytes).toBe(0);
  });

  test("is waited for, also where one upload has all of it", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 2, memoryBytes: 1_500_000 });
    const { source, release } = halfway({});
    const first = streamModel(source, server.urlOf("r/ada"), CODEC);
    await expect.poll(() => round.status().clients[0]?.percent).toBe(50);
    let over = false;
    const second = streamModel(described(), server.urlOf("r/bob"), { ...CODEC, idleTimeoutMs: 300 });
    void second.finally(() => {
      over = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect([over, round.status().clients[1]?.percent]).toEqual([false, 0]);
    release();
    await Promise.all([first, second]);
    expect(await round.done).toHaveLength(2);
  });

  test("is enough by default for any window", async () => {
    const server = await serving({ windowBytes: 65536 });
    const round = await server.collect("r", { expect: 1 });
    await streamModel(described(), server.urlOf("r/ada"), { codec: "normfloat4" });
    expect(await round.done).toHaveLength(1);
  });
});
