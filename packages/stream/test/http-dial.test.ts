import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { dialHttp } from "../src/channel/http-dial.js";

// undici waits for a connection with its own patience, and does not look at anybody's signal meanwhile.
test.each(["http", "https"])(
  "a host that takes a connection of %s and never says a word is left when the caller gives up",
  async (scheme) => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => void sockets.add(socket.on("error", () => {}))).listen(
      0,
      "127.0.0.1",
    );
    await once(server, "listening");
    const giveUp = new AbortController();
    const dialling = dialHttp(`${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`, {
      signal: giveUp.signal,
    });
    const [socket] = (await once(server, "connection")) as [Socket];
    socket.resume();
    const left = once(socket, "close");
    giveUp.abort(new Error("enough"));
    await expect(dialling).rejects.toThrow("enough");
    await left;
    server.close();
  },
);
