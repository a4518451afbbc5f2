import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer, connect as dialTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TransformStream } from "node:stream/web";
import { defaultCodecs, type Tensor } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  type Destination,
  type DialOptions,
  duplexChannel,
  type Listener,
  type ListenOptions,
  listen,
  memoryChannelPair,
  type Origin,
  receiveModel,
  streamModel,
} from "../src/index.js";
import { arriving } from "./arriving.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { closers, collect, given, mixed } from "./transfer-fixture.js";

const authority = hasOpenssl ? makeAuthority() : undefined;

async function listening(options: ListenOptions): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

/** Each way for two ends to meet: where one sends to, the other receives from, and how either dials. */
const meetings: Record<string, () => Promise<[Destination, Origin, DialOptions?]>> = {
  memory: async () => memoryChannelPair(10_007),
  "websocket, receiver listens": async () => {
    const listener = await listening({});
    return [listener.url, listener];
  },
  "websocket, sender listens": async () => {
    const listener = await listening({});
    return [listener, listener.url];
  },
  "http, receiver listens": async () => {
    const listener = await listening({ url: "http://127.0.0.1:0" });
    return [listener.url, listener];
  },
  "http, sender listens": async () => {
    const listener = await listening({ url: "http://127.0.0.1:0" });
    return [listener, listener.url];
  },
  "tcp, receiver listens": async () => {
    const listener = await listening({ url: "tcp://127.0.0.1:0" });
    return [listener.url, listener];
  },
  "unix, sender listens": async () => {
    const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
    closers.push(() => rm(folder, { recursive: true }));
    const listener = await listening({ path: join(folder, "model.sock") });
    return [listener, listener.url];
  },
  ...(authority && {
    "tls, sender listens": async (): Promise<[Destination, Origin, DialOptions]> => {
      const { ca, server, client } = authority;
      const listener = await listening({ url: "tls://127.0.0.1:0", tls: { ca, ...server } });
      return [listener, listener.url, { tls: { ca, ...client } }];
    },
    "https, receiver listens": async (): Promise<[Destination, Origin, DialOptions]> => {
      const { ca, server, client } = authority;
      const listener = await listening({ url: "https://127.0.0.1:0", tls: { ca, ...server } });
      return [listener.url, listener, { tls: { ca, ...client } }];
    },
  }),
  "web streams": async () => {
    const [there, back] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
    return [
      { readable: back.readable, writable: there.writable },
      { readable: there.readable, writable: back.writable },
    ];
  },
  "tcp sockets": async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
    const socket = dialTcp((server.address() as AddressInfo).port, "127.0.0.1");
    closers.push(
      () => server.close(),
      () => socket.destroy(),
    );
    return [duplexChannel(socket), await accepted];
  },
};

const codecs = defaultCodecs.names();

describe.each(Object.keys(meetings))("over %s", (meeting) => {
  test.each(codecs)(
    "%s arrives as the codec makes each tensor whole, whatever the chunk size",
    async (name) => {
      const spec = defaultCodecs.resolve(name);
      for (const chunkBytes of [32768, 40_000, 65_536, 1 << 20]) {
        for (const borrow of [false, true]) {
          const [destination, origin, dial] = await meetings[meeting]!();
          const options = { codec: name, minElements: 0, chunkBytes, dial };
          const received = receiveModel(origin, { borrow, dial });
          const [got, sent] = await Promise.all([
            collect(received),
            streamModel(mixed, destination, options),
          ]);
          const summary = await received.done;
          expect([...got.keys()]).toEqual(Object.keys(mixed));
          for (const [tensor, { data, shape, dtype }] of got) {
            const where = `${tensor} in chunks of ${chunkBytes}`;
            expect({ shape, dtype }, where).toEqual({
              shape: given(tensor).shape,
              dtype: given(tensor).dtype,
            });
            const expected = arriving({ ...given(tensor), name: tensor } as Tensor, spec, chunkBytes);
            expect(Buffer.compare(data, expected), where).toBe(0);
          }
          expect(sent).toMatchObject({
            confirmed: true,
            digest: summary.digest,
            fallbackChunks: sent.declinedChunks,
            wireBytes: summary.wireBytes,
          });
        }
      }
    },
  );
});
