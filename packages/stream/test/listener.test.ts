import { createServer } from "node:http";
import { afterEach, expect, test } from "vitest";
import WebSocket from "ws";
import { type Listener, listen, receiveModel, streamModel, type TensorMap } from "../src/index.js";

const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array(2) } };
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function listener(): Promise<Listener> {
  const listener = await listen();
  closers.push(() => listener.close());
  return listener;
}

async function dialed(url: string): Promise<WebSocket> {
  const socket = new WebSocket(url);
  socket.on("error", () => {});
  closers.push(() => socket.terminate());
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("close", reject);
  });
  return socket;
}

const closed = (socket: WebSocket): Promise<unknown> =>
  new Promise((resolve) => socket.once("close", resolve));

test("peers that left before anybody took them do not fill the listener", async () => {
  const at = await listener();
  for (let i = 0; i < 64; i++) {
    const socket = await dialed(at.url);
    socket.close();
    await closed(socket);
  }
  const sending = streamModel(model, at.url);
  sending.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 100));
  const { done } = receiveModel(at, { to: discarding });
  await expect(sending).resolves.toMatchObject({ confirmed: true });
  await done;
});

const discarding = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

test("many small messages before anybody listens are turned away", async () => {
  for (const bytes of [0, 1]) {
    const at = await listener();
    const socket = await dialed(at.url);
    const over = closed(socket);
    // Together they take no more room than the bytes in them; an empty one counts as one byte.
    for (let i = 0; i < 300_000; i++) socket.send(Buffer.alloc(bytes));
    await over;
  }
});

test("a WebSocket may still be opening", async () => {
  const at = await listener();
  const socket = new WebSocket(at.url);
  closers.push(() => socket.terminate());
  const sending = streamModel(model, socket);
  const { done } = receiveModel(at, { to: discarding });
  await expect(sending).resolves.toMatchObject({ confirmed: true });
  await done;
});

test("a WebSocket that never opens is CHANNEL_CLOSED", async () => {
  const server = createServer((_, response) => response.writeHead(404).end()).listen(0, "127.0.0.1");
  closers.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as { port: number }).port}`);
  await expect(streamModel(model, socket)).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("a URL that is none is an argument at fault", async () => {
  for (const url of ["ws://", "ws://[", "ws://host:port"]) {
    await expect(streamModel(model, url)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  }
});

test("a signal that outlives a transfer keeps nothing of it", async () => {
  const at = await listener();
  const { signal } = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  signal.addEventListener = function (this: AbortSignal, ...args: Parameters<typeof addEventListener>) {
    listeners++;
    return addEventListener.apply(this, args);
  } as typeof addEventListener;
  signal.removeEventListener = function (this: AbortSignal, ...args: Parameters<typeof removeEventListener>) {
    listeners--;
    return removeEventListener.apply(this, args);
  } as typeof removeEventListener;
  const { done } = receiveModel(at, { to: discarding });
  await streamModel(model, at.url, { signal });
  await done;
  expect(listeners).toBe(0);
});

test("a server that begins a refusal and never ends it has refused all the same", async () => {
  const server = createServer((_, response) => {
    // An answer to HEAD has no body that would bring its head out.
    response.writeHead(404).flushHeaders();
    response.write("no");
  }).listen(0, "127.0.0.1");
  closers.push(
    () => server.closeAllConnections(),
    () => server.close(),
  );
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/model.twire`;
  await expect(receiveModel(url, { to: discarding }).done).rejects.toMatchObject({ code: "NOT_FOUND" });
});
