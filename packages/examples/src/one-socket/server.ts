import type { AddressInfo } from "node:net";
import { receiveModel, shareSocket, streamModel, tensorList } from "@tensorwire/stream";
import { WebSocketServer } from "ws";
import {
  aggregated,
  floats,
  packed,
  packWeights,
  unpacked,
  unpackWeights,
  type Way,
  type Weight,
} from "./protocol.js";

/** A server as frameworks have it: it takes the weights of one client, and gives back what it has made of them. */
const way = process.argv[2] as Way;
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 2 ** 31 - 1 });

server.on("connection", (webSocket) => {
  // Everything that is of the framework stays as it was, over `socket`.
  const shared = way === "channel" ? shareSocket(webSocket) : undefined;
  const socket = shared?.socket ?? webSocket;
  socket.on("message", (data) => {
    const message = unpacked(data);
    if (message.type === "ping") return socket.send(packed(message));
    const weights = unpackWeights(message.weights);
    aggregated(weights);
    socket.send(packed(packWeights(weights)));
  });
  socket.on("close", () => {
    process.send!({ seconds: 0, peakRssBytes: process.resourceUsage().maxRSS * 1024, longestPingMs: 0 });
    server.close();
    process.disconnect();
  });
  if (shared) void exchange(shared.channel);
});

async function exchange(channel: ReturnType<typeof shareSocket>["channel"]): Promise<void> {
  const tensors = await tensorList(receiveModel(channel));
  const weights = tensors.map(({ shape, data }): Weight => ({ dtype: "F32", shape, data: floats(data) }));
  aggregated(weights);
  await streamModel(weights, channel);
}

server.on("listening", () => process.send!({ port: (server.address() as AddressInfo).port }));
