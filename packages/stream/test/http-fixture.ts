import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Channel } from "@tensorwire/core";
import { request } from "undici";
import { afterEach, expect } from "vitest";
import type { Visitors } from "../src/channel/server.js";
import {
  HttpChannels,
  type HttpChannelsOptions,
  type Listener,
  listen,
  type TensorMap,
} from "../src/index.js";

export const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export const MiB = 2 ** 20;
export const TYPE = "application/vnd.tensorwire.channel";

export const model: TensorMap = {
  w: { dtype: "F32", shape: [6 * MiB], data: new Float32Array(6 * MiB).map((_, i) => i % 1000) },
};

export const nowhere = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

export async function serving(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  closers.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** HTTP channels within a server that has other things to do. */
export async function mounted(
  visitors: Partial<Visitors> = {},
  options: HttpChannelsOptions = {},
): Promise<{ url: string; channels: Channel[]; server: Server }> {
  const channels: Channel[] = [];
  const http = new HttpChannels(
    { full: false, enter: (channel) => channels.push(channel), ...visitors },
    options,
  );
  const server = createServer((incoming, response) => {
    if (!http.handle(incoming, response)) response.end("something else");
  });
  // Not waited for: nobody asks for their last words, which would take a second each.
  closers.push(() => channels.map((channel) => channel.close(new Error("the test is over"))));
  return { url: await serving(server), channels, server };
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly text: string;
}

/** Requests as another implementation makes them. */
export async function ask(
  url: string,
  method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE",
  headers: Record<string, string> = {},
  body?: string,
): Promise<Answer> {
  const answer = await request(url, { method, headers, body: body ?? null });
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
}

export async function created(url: string, headers: Record<string, string> = {}): Promise<string> {
  const { status, headers: answer } = await ask(url, "POST", { "content-type": TYPE, ...headers });
  expect(status).toBe(201);
  return new URL(String(answer.location), url).href;
}

export const put = (transfer: string, offset: number, body: string, headers: Record<string, string> = {}) =>
  ask(transfer, "PUT", { "tensorwire-offset": String(offset), "tensorwire-received": "0", ...headers }, body);

export async function listening(url: string): Promise<Listener> {
  const listener = await listen({ url });
  closers.push(() => listener.close());
  return listener;
}
