import { EventEmitter } from "node:events";
import { type IncomingMessage, Server } from "node:http";
import type { Channel } from "@tensorwire/core";
import { type ChannelPair, channelSuite } from "@tensorwire/core/testing";
import { afterAll } from "vitest";
import { dialHttp } from "../src/channel/http-dial.js";
import { listen } from "../src/channel/listen.js";
import { Relay } from "./relay.js";

// A listener hands out channels: of the requests that are made of them is heard from the servers themselves.
const bodies = new Set<IncomingMessage>();
let stalled = false;
const { emit } = EventEmitter.prototype;
Server.prototype.emit = function (this: Server, event: string, ...args: unknown[]): boolean {
  const [request] = args as [IncomingMessage];
  if (event === "request" && request.method === "PUT") {
    bodies.add(request);
    request.once("close", () => bodies.delete(request));
    if (stalled) request.pause();
  }
  return emit.call(this, event, ...args);
};
afterAll(() => {
  Reflect.deleteProperty(Server.prototype, "emit");
});

/** Keeps the server from reading what is put to it. */
function stallServer(): () => void {
  stalled = true;
  for (const body of bodies) body.pause();
  return () => {
    stalled = false;
    for (const body of bodies) {
      // One that nobody reads yet would be read past.
      if (body.listenerCount("data") > 0) body.resume();
      else body.on("newListener", (event) => void (event === "data" && setImmediate(() => body.resume())));
    }
  };
}

/** A client, the server's channel, and the wire between them. */
async function ends(): Promise<{ client: Channel; server: Channel; wire: Relay; dispose(): Promise<void> }> {
  const listener = await listen({ url: "http://127.0.0.1:0" });
  const wire = await Relay.to(listener.url);
  const taken = new AbortController();
  const taking = new Promise<Channel>((resolve) => void listener.each(resolve, taken.signal));
  const [client, server] = await Promise.all([dialHttp(`http://127.0.0.1:${wire.port}`), taking]);
  taken.abort();
  const dispose = async (): Promise<void> => {
    stalled = false;
    wire.die();
    await listener.close();
  };
  return { client, server, wire, dispose };
}

channelSuite("HTTP, from its client", async (): Promise<ChannelPair> => {
  const { client, server, wire, dispose } = await ends();
  return { left: client, right: server, stall: stallServer, vanish: () => wire.die(), dispose };
});

channelSuite("HTTP, from its server", async (): Promise<ChannelPair> => {
  const { client, server, wire, dispose } = await ends();
  return {
    left: server,
    right: client,
    stall: () => wire.hold("toClient"),
    vanish: () => wire.die(),
    dispose,
  };
});
