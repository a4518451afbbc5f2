import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  DEFAULT_LIMITS,
  encodeFrame,
  FrameType,
  type Hello,
  PREAMBLE,
  TensorwireError,
} from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import {
  type Channel,
  fromTensors,
  type Listener,
  type ListenOptions,
  listen,
  memoryChannelPair,
  receiveModel,
  type Sink,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { Connection } from "../src/session/connection.js";
import { CliProcess, COMMAND, makeSparseModel } from "./cli-process.js";
import { FaultyLine } from "./faulty-line.js";
import { ScriptedPeer } from "./scripted-peer.js";

const closers: (() => unknown)[] = [];
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-idle-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function listening(options: ListenOptions = {}): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

const small = { chunkBytes: 32768, windowBytes: 65536 };
const infos = ["a", "b"].map((name) => ({ name, dtype: "F32" as const, shape: [4096] }));
const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };

/** Takes chunks only as long as `open` says. */
function gatedSink(open: Promise<void>): Sink {
  return {
    name: "gated",
    parallel: false,
    open: async () => {},
    write: () => open,
    finish: async () => {},
    abort: async () => {},
  };
}
const discarding = gatedSink(Promise.resolve());

const built = existsSync(new URL("../dist/index.js", import.meta.url));
if (!built) console.log("SKIPPED: needs npm run build");

describe.runIf(built)("a half-open peer is let go by the idle timeout: a process that is stopped", () => {
  const stopped = (command: CliProcess): void => {
    command.child.kill("SIGSTOP");
    closers.push(async () => {
      command.child.kill("SIGKILL");
      await command.ended;
    });
  };

  test.each(["ws", "tcp", "http"])("while it receives over %s", async (scheme) => {
    const to = join(folder, "received.safetensors");
    const receiver = new CliProcess(["receive", "--listen", `${scheme}://127.0.0.1:0`, "--out", to]);
    let bytes = 0;
    const large = { w: { dtype: "U8", shape: [128 << 20], data: new Uint8Array(128 << 20) } } as const;
    const sending = streamModel(large, await receiver.url(), {
      idleTimeoutMs: 400,
      onProgress: ({ acknowledgedBytes }) => {
        if (acknowledgedBytes > 0 && bytes === 0) stopped(receiver);
        bytes = acknowledgedBytes;
      },
    });
    await expect(sending).rejects.toMatchObject({ code: "IDLE_TIMEOUT", retryable: true });
    expect(bytes).toBeGreaterThan(0);
  });

  test("while it sends", async () => {
    const path = join(folder, "model.safetensors");
    await makeSparseModel(path, 256 << 20);
    const sender = new CliProcess(["send", path, "--listen", "127.0.0.1:0", "--window", "128KiB"]);
    let bytes = 0;
    const to = join(folder, "received.safetensors");
    const { done } = receiveModel(await sender.url(), {
      idleTimeoutMs: 400,
      to,
      onProgress: ({ sourceBytes }) => {
        if (sourceBytes > 0 && bytes === 0) stopped(sender);
        bytes = sourceBytes;
      },
    });
    await expect(done).rejects.toMatchObject({ code: "IDLE_TIMEOUT" });
    expect(await readdir(folder)).not.toContain("received.safetensors");
  });

  test.each(["ws", "tcp", "http"])(
    "before it takes the connection that its host took, over %s",
    async (scheme) => {
      const out = join(folder, "never.safetensors");
      const receiver = new CliProcess(["receive", "--listen", `${scheme}://127.0.0.1:0`, "--out", out]);
      const url = await receiver.url();
      stopped(receiver);
      await expect(streamModel(model, url, { idleTimeoutMs: 300 })).rejects.toMatchObject({
        code: "IDLE_TIMEOUT",
      });
    },
  );
});

describe("a half-open peer is let go by the idle timeout: a line that went dead", () => {
  test.each(["ws", "tcp", "http"])("both ends of it over %s", async (scheme) => {
    const listener = await listening({ url: `${scheme}://127.0.0.1:0` });
    const line = await FaultyLine.to(listener.url);
    closers.push(() => line.close());
    const never = gatedSink(new Promise(() => {}));
    const { done } = receiveModel(listener, { ...small, idleTimeoutMs: 300, to: never });
    const sending = streamModel(model, `${scheme}://127.0.0.1:${line.port}`, {
      ...small,
      idleTimeoutMs: 300,
      onProgress: () => line.freeze(),
    });
    await expect(sending).rejects.toMatchObject({ code: "IDLE_TIMEOUT" });
    await expect(done).rejects.toMatchObject({ code: "IDLE_TIMEOUT" });
  });

  test("an orderly close does not wait for it either", async () => {
    let dropped: ((error: Error) => void) | undefined;
    const channel: Channel = {
      kind: "dead",
      direction: "both",
      open: () => {},
      send: async () => {},
      close: (error) =>
        new Promise((resolve) => {
          if (!error) dropped = () => resolve();
          else dropped?.(error);
        }),
    };
    const limits = { maxChunkBytes: 1, maxManifestBytes: 1 };
    const hello = { software: "a test", role: "send" as const, codecs: [], limits };
    const connection = new Connection(channel, { hello, limits: DEFAULT_LIMITS, idleTimeoutMs: 100 });
    await connection.close();
  });
});

describe("a slow loris is let go by the idle timeout: bytes that never make a frame", () => {
  const manifest = encodeFrame(FrameType.MANIFEST, 1, 0, Buffer.alloc(10_000, " "));
  async function drip(socket: Socket, bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) {
      if (socket.destroyed) return;
      socket.write(Uint8Array.of(byte));
      await pause(10);
    }
  }
  const hello = (role: string) =>
    Buffer.from(
      JSON.stringify({
        versions: [1],
        software: "a loris",
        role,
        codecs: [],
        limits: { maxChunkBytes: 1, maxManifestBytes: 1 },
      } satisfies Omit<Hello, "role"> & { role: string }),
    );

  test("within the frame after HELLO", async () => {
    const listener = await listening({ url: "tcp://127.0.0.1:0" });
    const { done } = receiveModel(listener, { idleTimeoutMs: 300, to: discarding });
    const taken = done.catch((error: unknown) => error);
    const { hostname, port } = new URL(listener.url);
    const socket = connect(Number(port), hostname);
    closers.push(() => socket.destroy());
    socket.on("error", () => {});
    let heard = "";
    socket.on("data", (portion: Buffer) => {
      heard += portion.toString("latin1");
    });
    const left = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.write(Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, hello("send"))]));
    void drip(socket, manifest);
    await left;
    expect(heard).toContain('"IDLE_TIMEOUT"');
    // A listener is none the worse for it: the next peer is served.
    const sending = streamModel(model, listener.url);
    await expect(sending).resolves.toMatchObject({ confirmed: true });
    expect(await taken).toMatchObject({ tensors: 1 });
  });

  test("within HELLO", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      closers.push(() => socket.destroy());
      void drip(socket, Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, hello("receive"))]));
    }).listen(0, "127.0.0.1");
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const error = await streamModel(model, `tcp://127.0.0.1:${port}`, { idleTimeoutMs: 300 }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(TensorwireError);
    expect(error).toMatchObject({ code: "IDLE_TIMEOUT" });
  });

  test("a connection that waits in a listener, and says nothing, loses its place", async () => {
    const listener = await listening({ idleTimeoutMs: 100 });
    const socket = new WebSocket(listener.url);
    const code = await new Promise((resolve) => socket.once("close", resolve));
    expect(code).toBe(1011);
  });
});

describe("heartbeats keep a peer that is only slow", () => {
  const patience = { idleTimeoutMs: 300 };

  test.each(["ws", "tcp", "http"])(
    "a caller that trains between two tensors, sending over %s",
    async (scheme) => {
      const listener = await listening({ url: `${scheme}://127.0.0.1:0` });
      const { done } = receiveModel(listener, { ...patience, to: discarding });
      const source = fromTensors(
        infos,
        (async function* () {
          for (const info of infos) {
            await pause(1200);
            yield { ...info, data: new Float32Array(4096) };
          }
        })(),
      );
      await expect(streamModel(source, listener.url, patience)).resolves.toMatchObject({ confirmed: true });
      await done;
    },
  );

  test("a caller that trains between two tensors, receiving", async () => {
    const listener = await listening();
    const tensor = () => ({ dtype: "F32" as const, shape: [40_000], data: new Float32Array(40_000) });
    const two = { a: tensor(), b: tensor() };
    const sending = streamModel(two, listener.url, { ...small, ...patience });
    const names: string[] = [];
    for await (const { name } of receiveModel(listener, { ...small, ...patience })) {
      names.push(name);
      await pause(1200);
    }
    await expect(sending).resolves.toMatchObject({ confirmed: true });
    expect(names).toEqual(["a", "b"]);
  });

  test.runIf(built)("what came while this process computed without a break is heard", async () => {
    const out = join(folder, "received.safetensors");
    const args = ["receive", "--listen", "127.0.0.1:0", "--out", out, "--idle-timeout", "20s"];
    const receiver = new CliProcess(args);
    const source = fromTensors(
      infos,
      (async function* () {
        for (const info of infos) {
          await pause(50);
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
          yield { ...info, data: new Float32Array(4096) };
        }
      })(),
    );
    const summary = await streamModel(source, await receiver.url(), { idleTimeoutMs: 200 });
    expect(summary.confirmed).toBe(true);
    expect((await receiver.ended).code).toBe(0);
  });

  test("a peer that asks for more of them than anybody needs does not get them", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const abort = new AbortController();
    const sending = streamModel(model, a, { signal: abort.signal });
    const begun = performance.now();
    await peer.hello("receive", { idleTimeoutMs: 1 });
    await pause(500);
    const most = (performance.now() - begun) / 16;
    const beats = peer.heard.filter(({ type }) => type === FrameType.PING).length;
    abort.abort();
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    expect(beats).toBeGreaterThan(0);
    expect(beats).toBeLessThanOrEqual(most);
  });

  test("a peer that reads nothing makes no queue of them", async () => {
    const sent: number[] = [];
    let receiver: Parameters<Channel["open"]>[0] | undefined;
    const deaf: Channel = {
      kind: "deaf",
      direction: "both",
      open: (to) => {
        receiver = to;
      },
      send: (parts) => {
        const type = parts[0]![1]!;
        sent.push(type);
        return type === FrameType.PING ? new Promise(() => {}) : Promise.resolve();
      },
      close: async () => {},
    };
    const abort = new AbortController();
    const sending = streamModel(model, deaf, { signal: abort.signal, idleTimeoutMs: 0 });
    await pause(20);
    const [far, near] = memoryChannelPair();
    near.open({ bytes: (portion) => receiver!.bytes(portion), end: () => {} });
    await new ScriptedPeer(far).hello("receive", { idleTimeoutMs: 100 });
    await pause(500);
    abort.abort();
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    expect(sent.filter((type) => type === FrameType.PING)).toEqual([FrameType.PING]);
  });

  test("a connection of the caller's may rest between two transfers for as long as it likes", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const options = { ...small, idleTimeoutMs: 100 };
    const abort = new AbortController();
    const first = streamModel(model, a, { ...options, signal: abort.signal });
    await peer.hello("any");
    await peer.hears(FrameType.MANIFEST);
    abort.abort();
    await expect(first).rejects.toMatchObject({ code: "ABORTED" });
    await pause(400);
    // It would be CHANNEL_CLOSED, or the old failure, had it not outlasted that.
    const second = streamModel(model, a, options);
    second.catch(() => {});
    while (peer.heard.filter(({ type }) => type === FrameType.MANIFEST).length < 2) await pause(5);
    await expect(second).rejects.toMatchObject({ code: "IDLE_TIMEOUT" });
  });
});

describe("who has no idle timeout", () => {
  test("a channel without a way back", async () => {
    const pipe = new PassThrough();
    const source = fromTensors(
      infos,
      (async function* () {
        for (const info of infos) {
          await pause(400);
          yield { ...info, data: new Float32Array(4096) };
        }
      })(),
    );
    const { done } = receiveModel({ readable: pipe }, { idleTimeoutMs: 100, to: discarding });
    await streamModel(source, { writable: pipe }, { idleTimeoutMs: 100 });
    await expect(done).resolves.toMatchObject({ tensors: 2 });
  });

  test("an artifact, whose bytes say nothing of it", async () => {
    const path = join(folder, "model.twire");
    await streamModel(model, path, { idleTimeoutMs: 100 });
    expect((await readFile(path)).includes("idleTimeoutMs")).toBe(false);
  });

  test("one who turns it off, whose HELLO says nothing of it", async () => {
    const heard: Record<string, unknown>[] = [];
    for (const idleTimeoutMs of [0, 5000, undefined]) {
      const [a, b] = memoryChannelPair();
      const peer = new ScriptedPeer(b);
      const abort = new AbortController();
      const sending = streamModel(model, a, { signal: abort.signal, idleTimeoutMs });
      heard.push(JSON.parse(Buffer.from((await peer.hears(FrameType.HELLO))!).toString()));
      abort.abort();
      await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    }
    expect(heard.map(({ idleTimeoutMs }) => idleTimeoutMs)).toEqual([undefined, 5000, 120_000]);
  });

  test.each([-1, 1, 99, 1.5, Number.NaN, 2 ** 31, "5" as never])("a time of %s is refused", async (time) => {
    const [a] = memoryChannelPair();
    for (const option of ["idleTimeoutMs", "stallTimeoutMs"]) {
      await expect(streamModel(model, a, { [option]: time })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(option),
      });
    }
    await expect(listen({ idleTimeoutMs: time })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

test.runIf(built)("no timer keeps a process alive", async () => {
  const code = `
    import { memoryChannelPair, streamModel } from "@tensorwire/stream";
    const [a, b] = memoryChannelPair();
    b.open({ bytes: () => {}, end: () => {} });
    const model = { w: { dtype: "F32", shape: [1], data: new Float32Array(1) } };
    streamModel(model, a, { stallTimeoutMs: 600000 }).finally(() => console.log("it ended"));
    setTimeout(() => console.log("nothing else to do"), 200);
  `;
  const cwd = fileURLToPath(new URL("../../../", import.meta.url));
  const args = ["--input-type=module", "--eval", code];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd });
  expect(stdout).toBe("nothing else to do\n");
});

test.runIf(built)("the command takes times as people write them", async () => {
  const run = promisify(execFile);
  const sending = run(process.execPath, [COMMAND, "send", "x", "ws://127.0.0.1:1", "--idle-timeout", "soon"]);
  await expect(sending).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--idle-timeout takes a time such as 500ms/),
  });
  const server = createServer(() => {}).listen(0, "127.0.0.1");
  closers.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `tcp://127.0.0.1:${(server.address() as { port: number }).port}`;
  const to = join(folder, "never.safetensors");
  const args = [COMMAND, "receive", url, "--out", to, "--idle-timeout", "300ms", "--stall-timeout", "10m"];
  await expect(run(process.execPath, args)).rejects.toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/^tensorwire: IDLE_TIMEOUT: /m),
  });
});
