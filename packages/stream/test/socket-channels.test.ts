import { EventEmitter } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Channel } from "@tensorwire/core";
import { type ChannelPair, channelSuite } from "@tensorwire/core/testing";
import { afterAll } from "vitest";
import { listen } from "../src/channel/listen.js";
import type { ListenOptions } from "../src/channel/listening-place.js";
import { dialTcp } from "../src/channel/tcp.js";
import { dialTls } from "../src/channel/tls.js";
import { dialUnix } from "../src/channel/unix.js";
import { dialWebSocket } from "../src/channel/websocket.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";

const folder = mkdtempSync(join(tmpdir(), "tensorwire-sockets-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;

// A listener hands out channels: what they run on is heard of from the servers themselves.
let accepted: Socket | undefined;
const { emit } = EventEmitter.prototype;
Server.prototype.emit = function (this: Server, event: string, ...args: unknown[]): boolean {
  if (event === "connection" || event === "secureConnection") accepted = args[0] as Socket;
  return emit.call(this, event, ...args);
};
afterAll(() => {
  Reflect.deleteProperty(Server.prototype, "emit");
});

/** What is dialled, and what a listener hands out of it. */
async function pair(options: ListenOptions, dial: (url: string) => Promise<Channel>): Promise<ChannelPair> {
  const listener = await listen(options);
  const taken = new AbortController();
  const taking = new Promise<Channel>((resolve) => void listener.each(resolve, taken.signal));
  const [left, right] = await Promise.all([dial(listener.url), taking]);
  taken.abort();
  const socket = accepted!;
  return {
    left,
    right,
    stall: () => {
      socket.pause();
      return () => socket.resume();
    },
    vanish: () => void socket.destroy(),
    dispose: () => listener.close(),
  };
}

channelSuite("tcp", () => pair({ url: "tcp://127.0.0.1:0" }, dialTcp));

channelSuite("unix", () => pair({ path: join(folder, `${sockets++}.sock`) }, dialUnix));

if (hasOpenssl) {
  const { ca, server, client } = makeAuthority();
  const tls = { ...server, ca };
  channelSuite("tls", () => pair({ url: "tls://127.0.0.1:0", tls: server }, (url) => dialTls(url, { ca })));
  channelSuite("WebSocket over TLS, both ends with a certificate", () =>
    pair({ tls }, (url) => dialWebSocket(url, { tls: { ca, ...client } })),
  );
}
