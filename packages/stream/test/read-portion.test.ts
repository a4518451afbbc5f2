import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Channel } from "@tensorwire/core";
import { afterEach, expect, test } from "vitest";
import { duplexChannel, ownSocketChannel } from "../src/channel/duplex.js";

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const SENT = Buffer.alloc(1024 * 1024, 7);
const PEER = { address: "127.0.0.1", private: true };

/** What a channel on a real socket is told, and what is left of those portions afterwards. */
async function told(make: (socket: Socket) => Channel): Promise<{ bytes: number; left: number }> {
  const server = createServer().listen(0, "127.0.0.1");
  closers.push(() => server.close());
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  closers.push(() => client.destroy());
  const [socket] = (await once(server, "connection")) as [Socket];
  closers.push(() => socket.destroy());
  const portions: Uint8Array[] = [];
  let bytes = 0;
  const ended = new Promise<void>((resolve) => {
    make(socket).open({
      bytes: (portion) => {
        if (portion.some((byte) => byte !== 7)) throw new Error("a portion is not what was sent");
        bytes += portion.length;
        portions.push(portion);
      },
      end: () => resolve(),
    });
  });
  client.end(SENT);
  await ended;
  return { bytes, left: portions.reduce((sum, { length }) => sum + length, 0) };
}

test("what a channel's own socket read is given back when the receiver has had it", async () => {
  const { bytes, left } = await told((socket) => ownSocketChannel(socket, "tcp", PEER));
  expect(bytes).toBe(SENT.length);
  expect(left).toBeLessThan(SENT.length / 4);
});

test("what a caller's socket read stays, and so does what somebody else was told", async () => {
  expect(await told((socket) => duplexChannel(socket))).toEqual({ bytes: SENT.length, left: SENT.length });
  const watched = await told((socket) =>
    ownSocketChannel(
      socket.on("data", () => {}),
      "tcp",
      PEER,
    ),
  );
  expect(watched.left).toBe(SENT.length);
});
