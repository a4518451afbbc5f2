import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { escaped, MESSAGE_HEADER_BYTES, MessageKind, writeHeader } from "../src/channel/socket-message.js";
import { receiveModel, shareSocket, streamModel, type TensorMap } from "../src/index.js";

const MIB = 1024 * 1024;
let server: WebSocketServer;
let client: WebSocket;
let accepted: WebSocket;

beforeEach(async () => {
  server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const connected = once(server, "connection") as Promise<[WebSocket]>;
  client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(client, "open");
  [accepted] = await connected;
});

afterEach(() => {
  client.terminate();
  server.close();
});

const model = (value: number, floats = 2 * MIB): TensorMap => ({
  w: { dtype: "F32", shape: [floats], data: new Float32Array(floats).fill(value) },
});

/** The first value of what comes. */
async function received(from: WebSocket): Promise<number | undefined> {
  let value: number | undefined;
  for await (const { data } of receiveModel(shareSocket(from).channel)) {
    value = new Float32Array(data.buffer, data.byteOffset, 1)[0];
  }
  return value;
}

/** A message that begins as ours do. */
function alike(kind: number, text: string): Buffer {
  const message = Buffer.alloc(MESSAGE_HEADER_BYTES);
  writeHeader(message, MessageKind.BYTES, 1);
  message[16] = kind;
  return Buffer.concat([message, Buffer.from(text)]);
}

it("carries models in both directions beside messages of any content, which stay in order", async () => {
  const sent: (string | Buffer)[] = [];
  for (let i = 0; i < 40; i++) {
    sent.push(
      `text ${i}`,
      Buffer.from(`bytes ${i}`),
      alike(i % 5, `${i}`),
      escaped(alike(0, `${i}`)),
      "",
      Buffer.alloc(0),
    );
  }
  const heard = { client: [] as (string | Buffer)[], accepted: [] as (string | Buffer)[] };
  for (const [name, socket] of Object.entries({ client, accepted })) {
    shareSocket(socket).socket.on("message", (data: Buffer, isBinary) => {
      heard[name as keyof typeof heard].push(isBinary ? data : String(data));
    });
  }
  const transfers = Promise.all([
    streamModel(model(1), shareSocket(client).channel, { codec: "normfloat4" }),
    received(accepted),
    streamModel(model(2), shareSocket(accepted).channel),
    received(client),
  ]);
  for (const message of sent) {
    client.send(message);
    accepted.send(message);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const [, one, , two] = await transfers;
  expect([one, two]).toEqual([1, 2]);
  const complete = () => heard.client.length === sent.length && heard.accepted.length === sent.length;
  while (!complete()) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(heard).toEqual({ client: sent, accepted: sent });
});

it("lets a message of the other program wait behind one of ours at most, in either direction", async () => {
  for (const socket of [client, accepted]) shareSocket(socket);
  for (const [from, to] of [
    [client, accepted],
    [accepted, client],
  ] as const) {
    // The sockets themselves: what they carry for us is known.
    const receiving = receiveModel(to, { to: sink(0) });
    const sending = streamModel(model(3, 8 * MIB), from);
    const heard = once(to, "message");
    await receiving.manifest;
    // The system takes what it has room for, and then no more: what is left waits in this process.
    to.pause();
    const waiting: number[] = [];
    while (waiting.length < 50) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      const buffered = Reflect.get(WebSocket.prototype, "bufferedAmount", from);
      if (buffered > 0 || waiting.length > 0) waiting.push(buffered);
      // What the other program asks for is how much of its own waits.
      expect(from.bufferedAmount).toBe(0);
    }
    // What a WebSocket puts before a message is 14 bytes at most.
    expect(Math.max(...waiting)).toBeLessThanOrEqual(256 * 1024 + 14);
    expect(Math.min(...waiting)).toBeGreaterThan(64 * 1024);
    from.send("x".repeat(1000));
    expect(from.bufferedAmount).toBeGreaterThanOrEqual(1000);
    expect(from.bufferedAmount).toBeLessThan(1014);
    to.resume();
    expect(String((await heard)[0])).toBe("x".repeat(1000));
    await sending;
    expect((await receiving.done).sourceBytes).toBe(32 * MIB);
  }
});

it("does not come between the pieces of a message", async () => {
  const messages: string[] = [];
  shareSocket(accepted).socket.on("message", (data) => messages.push(String(data)));
  const sending = streamModel(model(4), shareSocket(client).channel);
  const receiving = received(accepted);
  for (let i = 0; i < 20; i++) {
    client.send("begins ", { fin: false });
    await new Promise((resolve) => setTimeout(resolve, 2));
    client.send("ends", { fin: true });
  }
  await sending;
  expect(await receiving).toBe(4);
  expect(messages).toEqual(Array(20).fill("begins ends"));
});

describe("the socket stays the other program's", () => {
  it("in the form in which it wants its messages", async () => {
    const { socket } = shareSocket(accepted);
    shareSocket(client);
    expect(socket).toBe(accepted);
    const next = async (form: "arraybuffer" | "fragments" | "blob" | "nodebuffer") => {
      socket.binaryType = form as "nodebuffer";
      expect(socket.binaryType).toBe(form);
      client.send(alike(1, form));
      const [data] = await once(socket, "message");
      return data as never;
    };
    expect(Buffer.from((await next("arraybuffer")) as ArrayBuffer)).toEqual(alike(1, "arraybuffer"));
    expect(await next("fragments")).toEqual([alike(1, "fragments")]);
    expect(await next("nodebuffer")).toEqual(alike(1, "nodebuffer"));
    const blob: Blob = await next("blob");
    expect(Buffer.from(await blob.arrayBuffer())).toEqual(alike(1, "blob"));
    socket.binaryType = "nodebuffer";
    client.send(new Blob([alike(1, "from a blob") as Uint8Array<ArrayBuffer>]));
    expect((await once(socket, "message"))[0]).toEqual(alike(1, "from a blob"));
    const heard = new Promise((resolve) => {
      client.onmessage = ({ data }) => resolve(data);
    });
    accepted.send("as browsers listen");
    expect(await heard).toBe("as browsers listen");
  });

  it("and hears of a peer that shares nothing as before", async () => {
    const { socket } = shareSocket(accepted);
    client.send(Buffer.from("binary"));
    expect((await once(socket, "message"))[0]).toEqual(Buffer.from("binary"));
    socket.send("text");
    expect(String((await once(client, "message"))[0])).toBe("text");
  });

  it("when a transfer is given up; the next one goes over another channel", async () => {
    const [near, far] = [shareSocket(client), shareSocket(accepted)];
    const [first, other] = [near.channel, far.channel];
    const stop = new AbortController();
    const sending = streamModel(model(5, 8 * MIB), first, { signal: stop.signal });
    const receiving = receiveModel(other, { to: { ...sink(), write: () => new Promise(() => {}) } });
    await receiving.manifest;
    await other.close(new Error("enough"));
    await expect(sending).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    stop.abort();
    await receiving.done.catch(() => {});
    expect(client.readyState).toBe(WebSocket.OPEN);
    expect(near.channel).not.toBe(first);
    const again = received(accepted);
    await streamModel(model(6), near.channel);
    expect(await again).toBe(6);
  });

  it("and its end is the channel's", async () => {
    const receiving = receiveModel(shareSocket(accepted).channel, { to: sink() });
    const sending = streamModel(model(7, 8 * MIB), shareSocket(client).channel);
    await receiving.manifest;
    client.terminate();
    await expect(sending).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    await expect(receiving.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });
});

const sink = (delayMs = 20) => ({
  name: "a sink",
  parallel: false,
  open: async () => {},
  write: () => (delayMs ? new Promise<void>((resolve) => setTimeout(resolve, delayMs)) : undefined),
  finish: async () => {},
  abort: async () => {},
});

it("is shared before it is open, in whatever form the other program wants its messages", async () => {
  const connected = once(server, "connection") as Promise<[WebSocket]>;
  const opening = new WebSocket(client.url);
  opening.binaryType = "arraybuffer";
  const heard: unknown[] = [];
  shareSocket(opening).socket.on("message", (data) => heard.push(data));
  const [other] = await connected;
  shareSocket(other);
  const sending = streamModel(model(3, 1000), shareSocket(other).channel);
  other.send(Buffer.from("theirs"));
  expect(await received(opening)).toBe(3);
  await sending;
  expect(
    heard.map((data) => [data instanceof ArrayBuffer, String(Buffer.from(data as ArrayBuffer))]),
  ).toEqual([[true, "theirs"]]);
  opening.terminate();
});

it("escapes a message in pieces that begin as ours do only together", async () => {
  const heard = once(shareSocket(accepted).socket, "message") as Promise<[Buffer, boolean]>;
  const { socket } = shareSocket(client);
  const message = alike(1, "theirs");
  for (const [from, to] of [
    [0, 0],
    [0, 7],
    [7, 20],
  ] as const)
    socket.send(message.subarray(from, to), { fin: false });
  socket.send(message.subarray(20));
  expect(await heard).toEqual([message, true]);
});

it("escapes whatever ws takes for bytes", async () => {
  const heard: unknown[] = [];
  shareSocket(accepted).socket.on("message", (data, isBinary) => heard.push([data, isBinary]));
  const { socket } = shareSocket(client);
  const theirs = alike(1, "theirs");
  const buffer = theirs.buffer.slice(theirs.byteOffset, theirs.byteOffset + theirs.length) as ArrayBuffer;
  const shared = new SharedArrayBuffer(theirs.length);
  new Uint8Array(shared).set(theirs);
  const blob = new Blob([buffer]);
  const forms = {
    array: [...theirs],
    json: theirs.toJSON(),
    buffer,
    view: new DataView(buffer),
    shared,
    blob,
    // Another's than Node's.
    foreign: {
      size: blob.size,
      type: "",
      stream: () => blob.stream(),
      arrayBuffer: () => blob.arrayBuffer(),
      [Symbol.toStringTag]: "Blob",
    },
  };
  for (const form of Object.values(forms)) socket.send(form as never);
  socket.send(5);
  socket.send([7, 8]);
  socket.send("x", { binary: true });
  socket.send("", { binary: true, fin: false });
  socket.send(theirs);
  while (heard.length < 11) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(heard).toEqual([
    ...Object.keys(forms).map(() => [theirs, true]),
    [Buffer.from("5"), false],
    [Buffer.from([7, 8]), true],
    [Buffer.from("x"), true],
    [theirs, true],
  ]);
});

it.each([undefined, null, 5, "ws://host", {}])("refuses what is no WebSocket: %s", (socket) => {
  expect(() => shareSocket(socket as never)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
});
