import { readFileSync } from "node:fs";
import { join } from "node:path";
import { TransformStream } from "node:stream/web";
import type { Channel } from "@tensorwire/core";
import {
  dialHttp,
  dialTcp,
  dialTls,
  dialUnix,
  dialWebSocket,
  type ListenOptions,
  listen,
  memoryChannelPair,
  webStreamsChannel,
} from "@tensorwire/stream";
import { drain, type InnerWay, type PulledWay, pourInto, type Way } from "./way.js";

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
    http: way(() => ({ url: "http://127.0.0.1:0" }), dialHttp),
    https: way(
      () => secure("https://127.0.0.1:0"),
      (url) => dialHttp(url, { tls: tls() }),
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

/** The first channel of a new listener. */
async function accepting(options: ListenOptions): Promise<{ url: string; channel: Promise<Channel> }> {
  const listener = await listen(options);
  const first = new AbortController();
  const channel = new Promise<Channel>((resolve) => {
    const take = (channel: Channel): void => {
      first.abort();
      resolve(channel);
      void listener.close();
    };
    void listener.each(take, first.signal);
  });
  return { url: listener.url, channel };
}

function way(options: () => ListenOptions, dial: (url: string) => Promise<Channel>): Way {
  return {
    async receive(came) {
      const { url, channel } = await accepting(options());
      void channel.then((channel) => drain(channel, came));
      return url;
    },
    send: async (url) => pourInto(await dial(url)),
  };
}

export const PULLED_WAYS: Readonly<Record<string, PulledWay>> = {
  "http, pulled": {
    async offer() {
      const { url, channel } = await accepting({ url: "http://127.0.0.1:0" });
      return { address: url, pour: channel.then(pourInto) };
    },
    take: async (url, came) => drain(await dialHttp(url), came),
  },
};

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
