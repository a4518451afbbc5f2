import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { encodeFrame, encodeJson, FrameType, PREAMBLE, type TensorwireError } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ServerOptions, WebSocket, WebSocketServer } from "ws";
import {
  MESSAGE_HEADER_BYTES,
  MessageKind,
  readMessage,
  writeHeader,
} from "../src/channel/socket-message.js";
import {
  type Destination,
  memoryChannelPair,
  receiveModel,
  shareSocket,
  streamModel,
  type TensorMap,
} from "../src/index.js";

const MIB = 1024 * 1024;
const closers: (() => void)[] = [];
let client: WebSocket;
let accepted: WebSocket;

async function connect(options: ServerOptions = {}): Promise<void> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, ...options });
  await once(server, "listening");
  const connected = once(server, "connection") as Promise<[WebSocket]>;
  client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(client, "open");
  [accepted] = await connected;
  const socket = client;
  closers.push(() => {
    socket.terminate();
    server.close();
  });
}

beforeEach(() => connect());

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const model = (value: number, floats = 1000): TensorMap => ({
  w: { dtype: "F32", shape: [floats], data: new Float32Array(floats).fill(value) },
});

const GARBAGE = Buffer.alloc(64, "x");

/** A loop that takes models as long as there is a socket. It ends by itself where it would keep the process from all else. */
class Taking {
  readonly values: number[] = [];
  readonly failures: TensorwireError[] = [];
  readonly done: Promise<void>;

  constructor(
    socket: WebSocket,
    private readonly from: () => Destination,
  ) {
    this.done = this.#take(socket);
  }

  async #take(socket: WebSocket): Promise<void> {
    while (socket.readyState === WebSocket.OPEN && this.failures.length < 1000) {
      try {
        for await (const { data } of receiveModel(this.from())) {
          this.values.push(new Float32Array(data.buffer, data.byteOffset, 1)[0]!);
        }
      } catch (error) {
        this.failures.push(error as TensorwireError);
      }
    }
  }
}

/** A message that the other end takes for one of a channel's. */
function message(kind: MessageKind, channel: number, ...parts: Uint8Array[]): Buffer {
  const header = Buffer.alloc(MESSAGE_HEADER_BYTES);
  writeHeader(header, kind, channel);
  return Buffer.concat([header, ...parts]);
}

const LAST_WORDS = [
  PREAMBLE,
  encodeFrame(FrameType.ERROR, 0, 0, encodeJson({ code: "INTERNAL", message: "no", retryable: false })),
];

describe("a peer whose bytes are none of a channel's", () => {
  it("fails one transfer; the next goes over another channel, and the process has its turns meanwhile", async () => {
    const [near, far] = [shareSocket(client), shareSocket(accepted)];
    const taking = new Taking(accepted, () => far.channel);
    accepted.on("message", (data) => accepted.send(data));
    await near.channel.send([GARBAGE]);
    const pong = once(client, "message");
    client.send("ping");
    expect(String((await pong)[0])).toBe("ping");
    // As soon as it is told, and before the channel that failed is closed.
    await streamModel(model(1), near.channel);
    await streamModel(model(2), near.channel);
    expect(taking.values).toEqual([1, 2]);
    expect(taking.failures.map(({ code }) => code)).toEqual(["PROTOCOL"]);
    client.close();
    await taking.done;
    expect(taking.failures.length).toBeLessThan(10);
  });

  it("does not keep a channel by failing it and never closing it", async () => {
    const far = shareSocket(accepted);
    const taking = new Taking(accepted, () => far.channel);
    const ends: number[] = [];
    client.on("message", (data: Buffer) => {
      const { kind, channel } = readMessage(data)!;
      if (kind === MessageKind.FAILED) ends.push(channel);
    });
    for (const channel of [1, 2, 3]) {
      client.send(message(MessageKind.BYTES, channel, ...LAST_WORDS));
      while (ends.at(-1) !== channel) await sleep(5);
    }
    expect(ends).toEqual([1, 2, 3]);
    expect(taking.failures.map(({ code }) => code)).toEqual(Array(3).fill("PEER_FAILED"));
    client.close();
    await taking.done;
  });

  it.each([
    ["garbage", GARBAGE],
    ["last words, and nothing more", Buffer.concat(LAST_WORDS)],
  ])("fails a socket that is all ours once: %s", async (_what, bytes) => {
    const taking = new Taking(accepted, () => accepted);
    client.send(bytes);
    await taking.done;
    expect(accepted.readyState).not.toBe(WebSocket.OPEN);
    expect(taking.failures.length).toBeLessThan(10);
  });
});

it("leaves the process its turns where one transfer after the other is begun on a channel that is over", async () => {
  const [channel] = memoryChannelPair();
  await channel.close();
  let turned = false;
  void setImmediate()
    .then(() => setImmediate())
    .then(() => (turned = true));
  let failures = 0;
  for (; !turned && failures < 100; failures++) {
    await expect(receiveModel(channel).done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    await expect(streamModel(model(1), channel)).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  }
  expect(failures).toBeLessThan(100);
});

/** Resolves when the client's socket takes nothing any more, with a frame on its way. */
async function stuck(): Promise<void> {
  const { _socket: socket } = client as unknown as { readonly _socket: Socket };
  const before = socket.bytesWritten;
  // By bytes and not by time: on a busy machine all of the model is there before a timer is.
  while (socket.bytesWritten - before < MIB) await setImmediate();
  accepted.pause();
  for (let looks = 0; looks < 20; ) {
    await sleep(2);
    looks = Reflect.get(WebSocket.prototype, "bufferedAmount", client) > 0 ? looks + 1 : 0;
  }
}

describe("a channel that is closed during a transfer", () => {
  it.each([
    ["orderly", undefined],
    ["with an error", new Error("enough")],
  ])("%s is over at the other end before the next one begins", async (_how, error) => {
    const [near, far] = [shareSocket(client), shareSocket(accepted)];
    const taking = new Taking(accepted, () => far.channel);
    for (let round = 1; round <= 3; round++) {
      const { channel } = near;
      const interrupted = streamModel(model(-1, 16 * MIB), channel);
      interrupted.catch(() => {});
      // In the middle of a frame that takes several messages.
      await stuck();
      void channel.close(error);
      const next = streamModel(model(round), near.channel);
      await sleep(1);
      accepted.resume();
      await next;
      await expect(interrupted).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    }
    expect(taking.values).toEqual([1, 2, 3]);
    expect(taking.failures.map(({ code }) => code)).toEqual(Array(3).fill("CHANNEL_CLOSED"));
    client.close();
    await taking.done;
  });

  it("is over at the other end, too, where an orderly close is given up", async () => {
    const [near, far] = [shareSocket(client), shareSocket(accepted)];
    const taking = new Taking(accepted, () => far.channel);
    const { channel } = near;
    const interrupted = streamModel(model(-1, 16 * MIB), channel);
    interrupted.catch(() => {});
    await stuck();
    void channel.close();
    await channel.close(new Error("now"));
    accepted.resume();
    await streamModel(model(1), near.channel);
    expect(taking.values).toEqual([1]);
    client.close();
    await taking.done;
  });
});

it("says of a peer that has never answered that it may not share its socket", async () => {
  const sending = streamModel(model(1), shareSocket(client).channel, { idleTimeoutMs: 1000 });
  await expect(sending).rejects.toMatchObject({
    code: "IDLE_TIMEOUT",
    message: expect.stringContaining("shareSocket"),
  });
});

it("says with which code the peer has closed, where its maxPayload is too small", async () => {
  const told = { code: "CHANNEL_CLOSED", message: expect.stringMatching(/closed with 1009.*maxPayload/) };
  await connect({ maxPayload: 100_000 });
  accepted.on("error", () => {});
  const taking = new Taking(accepted, () => shareSocket(accepted).channel);
  await expect(streamModel(model(1, MIB), shareSocket(client).channel)).rejects.toMatchObject(told);
  await taking.done;
  await connect({ maxPayload: 100_000 });
  accepted.on("error", () => {});
  const own = new Taking(accepted, () => accepted);
  await expect(streamModel(model(1, MIB), client)).rejects.toMatchObject(told);
  await own.done;
});
