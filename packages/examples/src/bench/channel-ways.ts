import { readFileSync } from "node:fs";
import { join } from "node:path";
import { TransformStream } from "node:stream/web";
import type { Channel } from "@tensorwire/core";
import {
  dialTcp,
  dialTls,
  dialUnix,
  dialWebSocket,
  type ListenOptions,
  listen,
  memoryChannelPair,
  webStreamsChannel,
} from "@tensorwire/stream";
import { drain, type InnerWay, pourInto, type Way } from "./way.js";

/** @param scratch A folder, with `bench.crt` and `bench.key` in it where there is TLS. */
export function channelWays(scratch: string): Readonly<Record<string, Way>> {
  const read = (name: string): string => readFileSync(join(scratch, name), "utf8");
  const secure = (url: string): ListenOptions => ({
    url,
    tls: { cert: read("bench.crt"), key: read("bench.key") },
  });
  const tls = () => ({ ca: read("bench.crt") });
  return {
    websocket: way(() => ({}), dialWebSocket),
    "websocket, random masks": way(
      () => ({}),
      (url) => dialWebSocket(url, { masking: "random" }),
    ),
    tcp: way(() => ({ url: "tcp://127.0.0.1:0" }), dialTcp),
    unix: way(() => ({ path: join(scratch, "bench.sock") }), dialUnix),
    tls: way(
      () => secure("tls://127.0.0.1:0"),
      (url) => dialTls(url, tls()),
    ),
    "websocket over TLS": way(
      () => secure("wss://127.0.0.1:0"),
      (url) => dialWebSocket(url, { tls: tls() }),
    ),
  };
}

function way(options: () => ListenOptions, dial: (url: string) => Promise<Channel>): Way {
  return {
    async receive(came) {
      const listener = await listen(options());
      const first = new AbortController();
      const take = (channel: Channel): void => {
        first.abort();
        drain(channel, came);
        void listener.close();
      };
      void listener.each(take, first.signal);
      return listener.url;
    },
    send: async (url) => pourInto(await dial(url)),
  };
}

export const INNER_WAYS: Readonly<Record<string, InnerWay>> = {
  memory: (came) => {
    const [here, there] = memoryChannelPair();
    drain(there, came);
    return pourInto(here);
  },
  "web streams": (came) => {
    const there = new TransformStream<Uint8Array, Uint8Array>();
    const back = new TransformStream<Uint8Array, Uint8Array>();
    drain(webStreamsChannel({ readable: there.readable, writable: back.writable }), came);
    return pourInto(webStreamsChannel({ readable: back.readable, writable: there.writable }));
  },
};
