import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex, PassThrough, type Readable } from "node:stream";
import type { Channel } from "@tensorwire/core";
import { type ChannelPair, channelSuite } from "@tensorwire/core/testing";
import { describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { duplexChannel } from "../src/channel/duplex.js";
import { memoryChannelPair } from "../src/channel/memory.js";
import { shareSocket } from "../src/channel/shared-socket.js";
import { dialWebSocket, webSocketChannel } from "../src/channel/websocket.js";

for (const portionBytes of [1, 7, Number.POSITIVE_INFINITY]) {
  channelSuite(
    `memory, in portions of ${portionBytes}`,
    () => {
      const [left, right] = memoryChannelPair(portionBytes);
      return { left, right };
    },
    { wire: false, largeBytes: portionBytes > 7 ? 3 * 1024 * 1024 + 7 : 300 * 1024 + 1 },
  );
}

/** Two joined sockets: what `listen` binds, `path` or a port, is dialled. */
async function socketPair(path?: string): Promise<[Socket, Socket, Server]> {
  const server = createServer();
  if (path) server.listen(path);
  else server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const dialled =
    typeof address === "object" && address ? connect(address.port, "127.0.0.1") : connect(path!);
  const [[accepted]] = (await Promise.all([once(server, "connection"), once(dialled, "connect")])) as [
    [Socket],
    unknown[],
  ];
  return [dialled, accepted, server];
}

async function socketChannels(vanish: (socket: Socket) => void, path?: string): Promise<ChannelPair> {
  const [dialled, accepted, server] = await socketPair(path);
  return {
    left: duplexChannel(dialled),
    right: duplexChannel(accepted),
    stall: () => stall(accepted),
    vanish: () => vanish(accepted),
    dispose: () => void server.close(),
  };
}

function stall(stream: Readable): () => void {
  stream.pause();
  return () => stream.resume();
}

channelSuite("duplex over TCP, reset", () => socketChannels((socket) => socket.resetAndDestroy()));
channelSuite("duplex over TCP", () => socketChannels((socket) => socket.destroy()));

channelSuite("duplex over a Unix socket", () => {
  const path = join(tmpdir(), `tensorwire-${randomUUID()}.sock`);
  return socketChannels((socket) => socket.destroy(), path);
});

/** Pairs of streams that hand each other the very same buffers, as transforms in front of a socket do. */
channelSuite("duplex over pairs of PassThrough streams", () => {
  const there = new PassThrough();
  const back = new PassThrough();
  return {
    left: duplexChannel({ readable: back, writable: there }),
    right: duplexChannel({ readable: there, writable: back }),
    stall: () => stall(there),
    vanish: () => {
      there.destroy();
      back.destroy();
    },
  };
});

/** One side of `stream.duplexPair`, which is younger than the oldest Node that we run on. */
class Side extends Duplex {
  other!: Side;
  #taken: (() => void) | undefined;

  override _read(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.other.destroyed) return done();
    if (this.other.push(chunk)) process.nextTick(done);
    else this.other.#taken = done;
  }

  override _final(done: () => void): void {
    this.other.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    done(error);
    if (!this.other.destroyed) process.nextTick(() => this.other.destroy());
  }
}

channelSuite("duplex over a pair of Duplex streams", () => {
  const left = new Side();
  const right = new Side();
  left.other = right;
  right.other = left;
  return {
    left: duplexChannel(left),
    right: duplexChannel(right),
    stall: () => stall(right),
    vanish: () => right.destroy(),
  };
});

// Between the two ends a process copies, each way from one pipe to another, as `ssh` does.
const COPY = `
  const { Socket } = require("node:net");
  const { pipeline } = require("node:stream");
  const from = (fd) => new Socket({ fd, readable: true, writable: false });
  const to = (fd) => new Socket({ fd, readable: false, writable: true });
  pipeline(from(0), to(1), () => {});
  pipeline(from(3), to(4), () => {});
`;

channelSuite("duplex over the pipes of a child process", () => {
  const child = spawn(process.execPath, ["-e", COPY], { stdio: ["pipe", "pipe", "inherit", "pipe", "pipe"] });
  const [stdin, stdout, , there, back] = child.stdio as unknown as Socket[];
  return {
    left: duplexChannel({ readable: back, writable: stdin }),
    right: duplexChannel({ readable: stdout, writable: there }),
    stall: () => stall(stdout!),
    vanish: () => void child.kill("SIGKILL"),
    dispose: () => void child.kill("SIGKILL"),
  };
});

/** A client's WebSocket, or what `dial` makes, and the one that its server has of it. */
async function webSockets<Dialled>(
  dial: (url: string) => Dialled | Promise<Dialled>,
): Promise<{ dialled: Dialled; accepted: WebSocket; server: WebSocketServer }> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
  await once(server, "listening");
  const connected = once(server, "connection") as Promise<[WebSocket]>;
  const dialled = await dial(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const [accepted] = await connected;
  return { dialled, accepted, server };
}

/** What the death of the process at `socket` looks like from here. */
function onSocket(socket: WebSocket): Pick<ChannelPair, "stall" | "vanish"> {
  return {
    stall: () => {
      // An opening one cannot be paused yet.
      if (socket.readyState === WebSocket.CONNECTING) socket.once("open", () => socket.pause());
      else socket.pause();
      return () => socket.resume();
    },
    vanish: () => socket.terminate(),
  };
}

for (const masking of ["random", "zero"] as const) {
  channelSuite(`WebSocket, from a client with ${masking} masks`, async () => {
    const { dialled, accepted, server } = await webSockets((url) => dialWebSocket(url, { masking }));
    const right = webSocketChannel(accepted);
    return { left: dialled, right, ...onSocket(accepted), dispose: () => server.close() };
  });
}

channelSuite("WebSocket, from its server", async () => {
  const { dialled, accepted, server } = await webSockets((url) => new WebSocket(url));
  // Still opening: a channel can be made of it, and sent to.
  const right = webSocketChannel(dialled);
  return { left: webSocketChannel(accepted), right, ...onSocket(dialled), dispose: () => server.close() };
});

for (const from of ["client", "server"] as const) {
  channelSuite(`a WebSocket that is shared, from its ${from}`, async () => {
    const { dialled, accepted, server } = await webSockets((url) => new WebSocket(url));
    const [near, far] = from === "client" ? [dialled, accepted] : [accepted, dialled];
    // As the other program would.
    for (const socket of [near, far]) socket.on("error", () => {});
    const [left, right] = [shareSocket(near).channel, shareSocket(far).channel];
    return { left, right, ...onSocket(far), dispose: () => server.close() };
  });
}

describe("duplex over two streams", () => {
  /** What a channel delivers, as text. */
  function listen(channel: Channel): { text: string; ends: (Error | undefined)[] } {
    const heard = { text: "", ends: [] as (Error | undefined)[] };
    channel.open({
      bytes: (portion) => void (heard.text += Buffer.from(portion).toString()),
      end: (error) => heard.ends.push(error),
    });
    return heard;
  }

  const closed = (stream: PassThrough) => new Promise<void>((resolve) => stream.once("close", resolve));

  it("reads what a process wrote last, though its input has closed", async () => {
    const stdout = new PassThrough();
    const stdin = new PassThrough();
    const channel = duplexChannel({ readable: stdout, writable: stdin });
    const heard = listen(channel);
    stdin.destroy(new Error("EPIPE"));
    await closed(stdin);
    await expect(channel.send([Buffer.from("more")])).rejects.toThrow("EPIPE");
    stdout.end("last words");
    await closed(stdout);
    expect(heard).toEqual({ text: "last words", ends: [expect.objectContaining({ message: "EPIPE" })] });
  });

  it("ends at once where the stream has ended before it was opened", async () => {
    const ended = new PassThrough();
    ended.end();
    ended.resume();
    await closed(ended);
    const destroyed = new PassThrough().on("error", () => {});
    destroyed.destroy(new Error("gone"));
    await closed(destroyed);
    for (const readable of [ended, destroyed]) {
      for (const streams of [{ readable }, { readable, writable: new PassThrough() }]) {
        const heard = listen(duplexChannel(streams));
        await new Promise((resolve) => setTimeout(resolve, 20));
        const error = readable.errored ? expect.objectContaining({ message: "gone" }) : undefined;
        expect(heard.ends).toEqual([error]);
      }
    }
  });

  it("keeps an error that comes before it is opened", async () => {
    const stream = new PassThrough();
    const channel = duplexChannel(stream);
    stream.destroy(new Error("early"));
    await closed(stream);
    const heard = listen(channel);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard.ends).toEqual([expect.objectContaining({ message: "early" })]);
    await expect(channel.send([Buffer.from("x")])).rejects.toThrow("early");
    await channel.close();
  });
});
