import { rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  encodeCredit,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  PREAMBLE,
  xxh64,
} from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import {
  createModelServer,
  dialWebSocket,
  fromTensors,
  listen,
  MemoryBudget,
  memoryChannelPair,
  receiveModel,
  type Sink,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { ScriptedPeer } from "./scripted-peer.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

const small = { chunkBytes: 32768, windowBytes: 65536 };
const patience = { stallTimeoutMs: 300, idleTimeoutMs: 200 };
/** More than twice as long. */
const TRAINING_MS = 700;
const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };
const manifest = JSON.stringify({
  kind: "model",
  chunkBytes: 32768,
  codecs: [{ name: "none" }],
  tensors: [["w", "F32", [40_000], 0]],
  metadata: [],
});
const back = { flags: FLAG_TO_SENDER };
const want = encodeWant({ windowBytes: 65536, ranges: [{ first: 0, count: 5 }] });

function sinkWith(write: () => Promise<void> | undefined): Sink {
  return {
    name: "a sink",
    parallel: false,
    open: async () => {},
    write,
    finish: async () => {},
    abort: async () => {},
  };
}

/** A peer whose heart beats, whatever else it does. */
function livingPeer(): [ScriptedPeer, ReturnType<typeof memoryChannelPair>[0]] {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(b);
  const heart = setInterval(() => void peer.say(FrameType.PING, "", { transfer: 0 }), 40);
  closers.push(() => clearInterval(heart));
  return [peer, a];
}

const toldOf = async (peer: ScriptedPeer): Promise<unknown> =>
  JSON.parse(Buffer.from((await peer.hears(FrameType.ERROR))!).toString());

describe("a peer that lives and moves nothing is let go by the stall timeout, and told so: a receiver", () => {
  const cases: [string, (peer: ScriptedPeer) => Promise<unknown>][] = [
    ["never asks for anything", async () => {}],
    ["never gives credit", (peer) => peer.say(FrameType.WANT, want, back)],
    [
      "gives the same credit again and again",
      async (peer) => {
        await peer.say(FrameType.WANT, want, back);
        const credit = encodeCredit({ limit: 65536, finished: 0 });
        const again = setInterval(() => void peer.say(FrameType.CREDIT, credit, back), 40);
        closers.push(() => clearInterval(again));
      },
    ],
    [
      "never confirms",
      async (peer) => {
        await peer.say(FrameType.WANT, want, back);
        await peer.say(FrameType.CREDIT, encodeCredit({ limit: 200_000, finished: 0 }), back);
      },
    ],
  ];
  test.each(cases)("that %s", async (_what, script) => {
    const [peer, channel] = livingPeer();
    const sending = streamModel(model, channel, { ...small, ...patience });
    sending.catch(() => {});
    await peer.hello("any");
    await peer.hears(FrameType.MANIFEST);
    await script(peer);
    await expect(sending).rejects.toMatchObject({ code: "STALL_TIMEOUT", retryable: true });
    expect(await toldOf(peer)).toMatchObject({ code: "STALL_TIMEOUT", retryable: true });
  });

  test("that reads nothing", async () => {
    const hello = encodeJson({
      versions: [1],
      software: "a deaf peer",
      role: "receive",
      codecs: ["none"],
      limits: { maxChunkBytes: 2 ** 30, maxManifestBytes: 2 ** 30 },
    });
    const server = createServer((socket: Socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.pause();
        const wide = encodeWant({ windowBytes: 2 ** 40, ranges: [{ first: 0, count: 16 }] });
        socket.write(PREAMBLE);
        socket.write(encodeFrame(FrameType.HELLO, 0, 0, hello));
        setTimeout(() => socket.write(encodeFrame(FrameType.WANT, 1, FLAG_TO_SENDER, wide)), 200);
        const heart = setInterval(() => socket.write(encodeFrame(FrameType.PING, 0, 0)), 40);
        closers.push(
          () => clearInterval(heart),
          () => socket.destroy(),
        );
      });
    }).listen(0, "127.0.0.1");
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const large = { w: { dtype: "U8", shape: [64 << 20], data: new Uint8Array(64 << 20) } } as const;
    await expect(streamModel(large, `tcp://127.0.0.1:${port}`, patience)).rejects.toMatchObject({
      code: "STALL_TIMEOUT",
    });
  });
});

describe("a peer that lives and moves nothing is let go by the stall timeout, and told so: a sender", () => {
  const payload = new Uint8Array(32768);
  const record = {
    tensor: 0,
    firstElement: 0,
    elements: 8192,
    codec: 0,
    packing: 0,
    payloadBytes: 32768,
    packedBytes: 32768,
    hash: xxh64(payload),
  };
  const announced = async (peer: ScriptedPeer): Promise<void> => {
    await peer.say(FrameType.MANIFEST, manifest);
    await peer.hears(FrameType.WANT);
  };
  const cases: [string, (peer: ScriptedPeer) => Promise<unknown>][] = [
    ["never announces anything", async () => {}],
    ["never sends a chunk", announced],
    [
      "stops after a chunk",
      async (peer) => {
        await announced(peer);
        await peer.raw(encodeDataHead(1, [record]), payload);
      },
    ],
  ];
  test.each(cases)("that %s", async (what, script) => {
    const [peer, channel] = livingPeer();
    const { done } = receiveModel(channel, { ...small, ...patience, to: sinkWith(() => undefined) });
    done.catch(() => {});
    await peer.hello("any");
    await script(peer);
    await expect(done).rejects.toMatchObject({ code: "STALL_TIMEOUT" });
    // Of a transfer that has no number yet nobody can be told on a connection that others share.
    if (what !== "never announces anything")
      expect(await toldOf(peer)).toMatchObject({ code: "STALL_TIMEOUT" });
  });

  test("that leaves a chunk half sent, where nobody minds how long a frame takes", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const options = { ...small, stallTimeoutMs: 300, idleTimeoutMs: 0 };
    const { done } = receiveModel(a, { ...options, to: sinkWith(() => undefined) });
    await peer.hello("any");
    await announced(peer);
    await peer.raw(encodeDataHead(1, [record]), payload.subarray(0, 1000));
    await expect(done).rejects.toMatchObject({ code: "STALL_TIMEOUT" });
  });
});

test("a server's client that never credits is let go by the server's stall timeout", async () => {
  const server = await createModelServer({ port: 0, stallTimeoutMs: 300 });
  closers.push(() => server.close());
  server.publish("m", model, { chunkBytes: 32768 });
  const peer = new ScriptedPeer(await dialWebSocket(server.urlOf("m")));
  const heart = setInterval(() => void peer.say(FrameType.PING, "", { transfer: 0 }), 40);
  closers.push(() => clearInterval(heart));
  await peer.hello("receive");
  await peer.hears(FrameType.MANIFEST);
  await peer.say(FrameType.WANT, want, back);
  expect(await toldOf(peer)).toMatchObject({ code: "STALL_TIMEOUT" });
  expect(JSON.parse(Buffer.from((await peer.hears(FrameType.HELLO))!).toString()).idleTimeoutMs).toBe(
    120_000,
  );
  while (server.transfers > 0) await pause(5);
});

describe("no stall is what a side does itself", () => {
  const infos = ["a", "b"].map((name) => ({ name, dtype: "F32" as const, shape: [40_000] }));
  const training = (): ReturnType<typeof fromTensors> =>
    fromTensors(
      infos,
      (async function* () {
        for (const info of infos) {
          await pause(TRAINING_MS);
          yield { ...info, data: new Float32Array(40_000) };
        }
      })(),
    );

  test("a sender that trains between two tensors", async () => {
    const listener = await listen();
    closers.push(() => listener.close());
    const { done } = receiveModel(listener, { ...small, to: sinkWith(() => undefined) });
    const sending = streamModel(training(), listener.url, { ...small, ...patience });
    await expect(sending).resolves.toMatchObject({ confirmed: true });
    await done;
  });

  test("a receiver that trains between two tensors", async () => {
    const listener = await listen();
    closers.push(() => listener.close());
    const tensor = () => ({ dtype: "F32" as const, shape: [40_000], data: new Float32Array(40_000) });
    const sending = streamModel({ a: tensor(), b: tensor() }, listener.url, small);
    const names: string[] = [];
    for await (const { name } of receiveModel(listener, { ...small, ...patience })) {
      names.push(name);
      await pause(TRAINING_MS);
    }
    expect(names).toEqual(["a", "b"]);
    await expect(sending).resolves.toMatchObject({ confirmed: true });
  });

  test("a receiver whose disk is slow, and one that leaves room on the line", async () => {
    const transfers = [
      { to: sinkWith(() => pause(450)) },
      { to: sinkWith(() => undefined), maxBytesPerSecond: 80_000 },
    ].map(async (slow) => {
      const [a, b] = memoryChannelPair();
      const { done } = receiveModel(b, { ...small, ...patience, ...slow });
      await expect(streamModel(model, a, small)).resolves.toMatchObject({ confirmed: true });
      await done;
    });
    await Promise.all(transfers);
  });

  test("a receiver that waits for memory, while the file that it reads waits for it", async () => {
    const path = join(tmpdir(), `tensorwire-stall-${process.pid}.twire`);
    closers.push(() => rm(path, { force: true }));
    await streamModel(model, path, small);
    const budget = new MemoryBudget(2 ** 20);
    const all = { bytes: () => budget.bytes, maxSteps: 1 };
    const owner = { wants: false, idle: true, grown() {} };
    const share = await budget.open(all, owner, new AbortController().signal);
    const to = sinkWith(() => undefined);
    const received = receiveModel(path, { ...small, to, budget, stallTimeoutMs: 100 });
    received.done.catch(() => {});
    await pause(500);
    share.close();
    expect(await received.done).toMatchObject({ sourceBytes: 160_000 });
  });

  test("a pipe whose writer trains has no stall without the option, and one with it", async () => {
    for (const [stallTimeoutMs, code] of [
      [undefined, undefined],
      [300, "STALL_TIMEOUT"],
    ] as const) {
      const server = createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
      const writable = connect((server.address() as { port: number }).port, "127.0.0.1");
      const readable = await accepted;
      closers.push(
        () => server.close(),
        () => writable.destroy(),
        () => readable.destroy(),
      );
      const sending = streamModel(training(), { writable }, small);
      sending.catch(() => {});
      const received = receiveModel({ readable }, { stallTimeoutMs, to: sinkWith(() => undefined) });
      const ended = await received.done.then(
        () => undefined,
        (error) => error.code,
      );
      expect(ended).toBe(code);
      writable.destroy();
      await sending.catch(() => {});
    }
  });
});
