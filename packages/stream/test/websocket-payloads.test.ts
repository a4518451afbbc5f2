import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { WebSocketPayloads } from "../src/channel/websocket-payloads.js";

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A frame as RFC 6455 has it. */
function frame(first: number, payload: Uint8Array, mask?: Uint8Array): Buffer {
  const { length } = payload;
  const long = length > 65535 ? 8 : length > 125 ? 2 : 0;
  const head = Buffer.alloc(2 + long);
  head[0] = first;
  head[1] = (mask ? 0x80 : 0) | (long === 8 ? 127 : long === 2 ? 126 : length);
  if (long === 2) head.writeUInt16BE(length, 2);
  if (long === 8) head.writeBigUInt64BE(BigInt(length), 2);
  const masked = mask ? payload.map((byte, i) => byte ^ mask[i & 3]!) : payload;
  return Buffer.concat([head, mask ?? Buffer.alloc(0), masked]);
}

const BINARY = 0x82;
const ZERO = new Uint8Array(4);
const MASK = Uint8Array.of(1, 2, 3, 4);
const long = randomBytes(70_000);
const middle = randomBytes(5000);
const short = randomBytes(100);

/** What is taken, and what is passed on, of bytes that come in portions of one size. */
function told(side: "client" | "server", bytes: Buffer, size: number) {
  const socket = new Socket();
  const passed: Buffer[] = [];
  const taken: Buffer[] = [];
  socket.on("data", (portion) => passed.push(portion));
  WebSocketPayloads.of(socket, side, 2 ** 20, (portion) => taken.push(portion));
  for (let at = 0; at < bytes.length; at += size) socket.emit("data", bytes.subarray(at, at + size));
  return { passed: Buffer.concat(passed), taken: Buffer.concat(taken) };
}

describe.each([1, 7, 1000, 1 << 20])("in portions of %i bytes", (size) => {
  test("payloads of binary messages are taken, and all else is passed on as it came", () => {
    const others = [
      frame(BINARY, short, ZERO),
      frame(0x89, short, MASK),
      frame(0x81, middle, ZERO),
      // Their mask changes them.
      frame(BINARY, middle, MASK),
      // In fragments, with a ping amid them; and one that may not stand there.
      frame(0x02, middle, ZERO),
      frame(0x89, short, ZERO),
      frame(BINARY, middle, ZERO),
      frame(0x80, middle, ZERO),
      // Compressed; without the mask that a client's have; longer than any may be.
      frame(0xc2, middle, ZERO),
      frame(BINARY, middle),
    ];
    // One before each of them, but for those within fragments, where nothing is taken.
    const mixed = others.flatMap((other, i) => [
      ...(i > 4 && i < 8 ? [] : [frame(BINARY, long, ZERO)]),
      other,
    ]);
    const { passed, taken } = told("server", Buffer.concat(mixed), size);
    expect(passed.equals(Buffer.concat(others))).toBe(true);
    expect(taken.equals(Buffer.concat(Array.from({ length: others.length - 3 }, () => long)))).toBe(true);
  });

  test("a client's end takes what is not masked", () => {
    const masked = frame(BINARY, middle, ZERO);
    const { passed, taken } = told("client", Buffer.concat([frame(BINARY, long), masked]), size);
    expect(taken.equals(long)).toBe(true);
    expect(passed.equals(masked)).toBe(true);
  });

  test("a message that is too long is left to be refused", () => {
    const head = frame(BINARY, long, ZERO).subarray(0, 14);
    head.writeBigUInt64BE(2n ** 20n + 1n, 2);
    const { passed, taken } = told("server", head, size);
    expect(passed.equals(head)).toBe(true);
    expect(taken.length).toBe(0);
  });

  test("what follows a close frame is nobody's", () => {
    const close = frame(0x88, Uint8Array.of(3, 232), ZERO);
    const { passed, taken } = told("server", Buffer.concat([close, frame(BINARY, long, ZERO)]), size);
    expect(passed.equals(close)).toBe(true);
    expect(taken.length).toBe(0);
  });
});

describe("the memory of a portion", () => {
  /** What is left of a portion of its own memory, once it was read. */
  function left(bytes: Buffer, within = bytes.length, listens: (socket: Socket) => void = () => {}): number {
    const portion = Buffer.from(new ArrayBuffer(within), 0, bytes.length);
    bytes.copy(portion);
    const socket = new Socket();
    socket.on("data", () => {});
    WebSocketPayloads.of(socket, "server", 2 ** 20, () => {});
    listens(socket);
    socket.emit("data", portion);
    return portion.length;
  }
  const message = frame(BINARY, long, ZERO);

  test("is given back at once where all of it was taken", () => {
    expect(left(message)).toBe(0);
  });

  test("stays where anybody else may read it", () => {
    expect(left(message, message.length + 1)).toBe(message.length);
    expect(left(message, message.length, (socket) => void socket.on("data", () => {}))).toBe(message.length);
  });

  test("stays where a part of it is for ws, which may keep it", () => {
    for (const other of [frame(0x89, short, ZERO), frame(BINARY, short, ZERO).subarray(0, 9)]) {
      const portion = Buffer.concat([message, other]);
      expect(left(portion)).toBe(portion.length);
    }
  });

  test("of a stream that a caller made stays", () => {
    const portion = Buffer.from(new Uint8Array(message).buffer);
    const stream = new PassThrough();
    stream.on("data", () => {});
    WebSocketPayloads.of(stream as unknown as Socket, "server", 2 ** 20, () => {});
    stream.emit("data", portion);
    expect(portion.length).toBe(message.length);
  });
});

test("over a real connection the payloads are what was sent, in order with what ws reads", async () => {
  const server = createServer();
  const sockets = new WebSocketServer({ noServer: true });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  const parts: Buffer[] = [];
  const closed = new Promise<void>((resolve) => {
    server.on("upgrade", (request, socket, head) => {
      sockets.handleUpgrade(request, socket, head, (opened) => {
        WebSocketPayloads.of(socket as Socket, "server", 2 ** 20, (part) => parts.push(Buffer.from(part)));
        opened.on("message", (data: Buffer) => parts.push(data));
        opened.on("close", () => resolve());
      });
    });
  });
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, {
    generateMask: (mask) => void mask.fill(0),
  });
  await new Promise((resolve) => client.once("open", resolve));
  const sent = [short, long, middle, short, long, long, middle];
  for (const message of sent) client.send(message);
  client.close();
  await closed;
  expect(Buffer.concat(parts).equals(Buffer.concat(sent))).toBe(true);
});
