import { readdir } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import {
  DEFAULT_LIMITS,
  encodeFrame,
  FrameType,
  type Hello,
  PREAMBLE,
  TensorwireError,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import { type Channel, receiveModel, streamModel } from "../src/index.js";
import { Connection } from "../src/session/connection.js";
import { CliProcess, makeSparseModel } from "./cli-process.js";
import { FaultyLine } from "./faulty-line.js";
import {
  built,
  closers,
  discarding,
  folder,
  gatedSink,
  listening,
  model,
  pause,
  small,
} from "./idle-timeout-fixture.js";

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
