import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type AggregateOptions,
  aggregate,
  fromTensors,
  type Listener,
  listen,
  type ReceivedModel,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { listenTo } from "../src/diagnostics/events.js";
import { CHUNK, pack, update, values } from "./aggregate-fixture.js";
import { BreakingProxy } from "./breaking-proxy.js";

const built = new URL("../dist/", import.meta.url);
const runs = existsSync(new URL("index.js", built));
if (!runs) console.log("SKIPPED: needs npm run build");

const ELEMENTS = 120_000;
const sizes = { chunkBytes: CHUNK, windowBytes: 4 * CHUNK, minElements: 0 } as const;
const quick = { initialDelayMs: 1, maxDelayMs: 4 } as const;
const closers: (() => unknown)[] = [];
const loans: number[] = [];
let folder: string;
let clients: Record<string, string>;
let stop: () => void;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  stop = listenTo({ "tensorwire:transfer:end": (message) => void loans.push(message.loans) });
  folder = await mkdtemp(join(tmpdir(), "tensorwire-aggregate-transfer-"));
  const codecs = ["normfloat4", "none", "blockwise8"];
  const packed = codecs.map((codec, i) => pack(at(`client${i}.twire`), update(i, ELEMENTS), codec));
  const paths = await Promise.all(packed);
  clients = Object.fromEntries(paths.map((path, i) => [`client${i}`, path]));
});
afterAll(async () => {
  stop();
  await rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  expect(loans.splice(0).filter((count) => count !== 0)).toEqual([]);
});

async function listening(): Promise<Listener> {
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  closers.push(() => listener.close());
  return listener;
}

/** What an undisturbed transfer makes of it. */
async function expected(name: string, options: AggregateOptions, codec: string): Promise<Buffer> {
  const path = at(`${Math.random()}${name}`);
  const listener = await listening();
  const received = receiveModel(listener, { to: path });
  await streamModel(aggregate(clients, options), listener.url, { ...sizes, codec });
  await received.done;
  return readFile(path);
}

describe.each<[string, AggregateOptions, string]>([
  ["model.safetensors", {}, "float16"],
  ["model.twire", { accumulator: "f32" }, "normfloat4"],
  ["model.twire", { method: "trimmed-mean", clipNorm: 3 }, "none"],
])("an aggregate sent to %s, %j, as %s", (name, options, codec) => {
  test("goes on over a line that breaks, and is the same bytes", async () => {
    const whole = await expected(name, options, codec);
    const listener = await listening();
    const sixth = whole.length / 6;
    const proxy = await BreakingProxy.open(Number(new URL(listener.url).port), [sixth, sixth]);
    closers.push(() => proxy.close());
    const path = at(`${Math.random()}${name}`);
    const received = receiveModel(listener, { to: path, windowBytes: 4 * CHUNK, retry: quick });
    const sending = streamModel(aggregate(clients, options), proxy.url, { ...sizes, codec, retry: quick });
    const [sent, got] = await Promise.all([sending, received.done]);
    expect(proxy.broken).toBe(2);
    expect(sent.retries).toBe(2);
    expect(got.digest).toBe(sent.digest);
    expect((await readFile(path)).equals(whole)).toBe(true);
  });

  test.runIf(runs)(
    "goes on after its process was killed, from what had arrived, and is the same bytes",
    async () => {
      const whole = await expected(name, options, codec);
      const path = at(`${Math.random()}${name}`);
      const listener = await listening();
      const first = sending(listener.url, options, {
        ...sizes,
        codec,
        maxBytesPerSecond: Math.ceil(whole.length / 2),
      });
      const killed = receiveModel(listener, {
        to: path,
        windowBytes: 4 * CHUNK,
        onProgress: ({ sourceBytes, totalBytes }) => {
          if (sourceBytes > totalBytes / 2) first.kill("SIGKILL");
        },
      });
      await expect(killed.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
      expect(existsSync(path)).toBe(false);
      const second = sending(listener.url, options, { ...sizes, codec });
      const received: ReceivedModel = receiveModel(listener, { to: path, windowBytes: 4 * CHUNK });
      const { resumedBytes, sourceBytes } = await received.done;
      expect(resumedBytes).toBeGreaterThan(sourceBytes / 4);
      const summary = await said(second);
      // Nobody made again what the receiver has: inputs and options are what they were.
      expect(summary.resumedBytes).toBe(resumedBytes);
      expect((await readFile(path)).equals(whole)).toBe(true);
    },
  );
});

test.runIf(runs)(
  "a process that is killed while it writes an aggregate is gone on from by another",
  async () => {
    const options = { clipNorm: 5 };
    const whole = at("undisturbed.twire");
    await streamModel(aggregate(clients, options), whole, { ...sizes, codec: "blockwise8" });
    const to = at("killed.twire");
    const slow = { ...sizes, codec: "blockwise8", maxBytesPerSecond: ELEMENTS / 2 };
    const [killed] = await once(sending(to, options, slow, 0.3), "exit");
    expect(killed).toBeNull();
    expect(existsSync(to)).toBe(false);
    const summary = await said(sending(to, options, { ...sizes, codec: "blockwise8" }));
    expect(summary.resumedBytes).toBeGreaterThan((4 * ELEMENTS) / 4);
    expect((await readFile(to)).equals(await readFile(whole))).toBe(true);
  },
);

/** A process that sends the aggregate, and says its summary; or kills itself when so much of it is done. */
function sending(
  to: string,
  options: AggregateOptions,
  transfer: StreamOptions,
  killedAt = Number.POSITIVE_INFINITY,
): ChildProcess {
  const program = `
    const { aggregate, streamModel } = await import(process.env.BUILT + "index.js");
    const { clients, options, to, transfer, killedAt } = JSON.parse(process.env.JOB);
    const onProgress = ({ acknowledgedBytes, totalBytes }) => {
      if (acknowledgedBytes > totalBytes * (killedAt ?? Infinity)) process.kill(process.pid, "SIGKILL");
    };
    const summary = await streamModel(aggregate(clients, options), to, { ...transfer, onProgress });
    process.stdout.write(JSON.stringify(summary));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: new URL("..", import.meta.url),
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      BUILT: built.href,
      JOB: JSON.stringify({ clients, options, to, transfer, killedAt }),
    },
  });
  closers.push(() => child.kill("SIGKILL"));
  return child;
}

async function said(child: ChildProcess): Promise<{ resumedBytes: number }> {
  let text = "";
  for await (const part of child.stdout!) text += String(part);
  return JSON.parse(text);
}

describe("the version token", () => {
  const versionOf = async (sources: Parameters<typeof aggregate>[0], options: AggregateOptions = {}) => {
    const source = aggregate(sources, options);
    await source.open();
    const { version } = source;
    await source.close();
    return version;
  };

  test("is the same for the same clients and options, and another for any others", async () => {
    const { client0, client1, client2 } = clients as Record<"client0" | "client1" | "client2", string>;
    const same = { a: client0, b: client1 };
    const version = await versionOf(same);
    expect(version).toMatch(/^[0-9a-f]{32}$/);
    expect(
      await versionOf(
        new Map([
          ["b", client1],
          ["a", client0],
        ]),
      ),
    ).toBe(version);
    expect(await versionOf(same, { method: "mean", accumulator: "f64" })).toBe(version);
    const others = await Promise.all([
      versionOf({ a: client0, b: client2 }),
      versionOf({ a: client0, c: client1 }),
      versionOf({ a: client1, b: client0 }),
      versionOf({ ...same, c: client2 }),
      versionOf(same, { weights: { a: 1, b: 2 } }),
      versionOf(same, { accumulator: "f32" }),
      versionOf(same, { clipNorm: 1 }),
      versionOf(same, { integers: "max" }),
      versionOf(same, { method: "median" }),
      versionOf(same, { method: "trimmed-mean" }),
      versionOf(same, { method: "trimmed-mean", trim: 0.2 }),
    ]);
    expect(new Set([version, ...others]).size).toBe(others.length + 1);
  });

  test("is none where a client has none", async () => {
    expect(await versionOf([clients.client0!, update(1, ELEMENTS)])).toBeUndefined();
  });

  test("of a client that was written anew is another, and what has arrived is compared", async () => {
    const path = at("changing.twire");
    const half = (client: number): TensorMap => {
      const data = values(0, ELEMENTS);
      data.set(values(client, ELEMENTS / 2), ELEMENTS / 2);
      return { weight: { dtype: "F32", shape: [ELEMENTS], data } };
    };
    await pack(path, half(1));
    const steady = half(5);
    const mean = () => aggregate([path, steady]);
    const to = at("changed.safetensors");
    const listener = await listening();
    const proxy = await BreakingProxy.open(Number(new URL(listener.url).port), [ELEMENTS * 3]);
    closers.push(() => proxy.close());
    const first = receiveModel(listener, { to, windowBytes: 4 * CHUNK });
    await Promise.allSettled([streamModel(mean(), proxy.url, sizes), first.done]);
    await rm(path);
    await pack(path, half(2));
    const second = receiveModel(listener, { to, windowBytes: 4 * CHUNK });
    const summary = await streamModel(mean(), listener.url, sizes);
    await second.done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    const clean = at("clean.safetensors");
    const third = receiveModel(listener, { to: clean });
    await streamModel(mean(), listener.url, sizes);
    await third.done;
    expect((await readFile(to)).equals(await readFile(clean))).toBe(true);
  });
});

test("of sources that are read once nothing is tried again, and the message says why", async () => {
  const tensors = Object.entries(update(1)).map(([name, tensor]) => ({ name, ...tensor }));
  const once = aggregate([fromTensors(tensors, tensors), update(2)]);
  await expect(streamModel(once, "tcp://127.0.0.1:9", { retry: true } as never)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("can be read only once"),
  });
});
