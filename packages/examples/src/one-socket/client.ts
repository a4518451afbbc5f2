import { once } from "node:events";
import { receiveModel, shareSocket, streamModel, tensorList } from "@tensorwire/stream";
import { WebSocket } from "ws";
import {
  type Account,
  floats,
  packed,
  packWeights,
  unpacked,
  unpackWeights,
  type Way,
  type Weight,
} from "./protocol.js";

/** A client as frameworks have it: it sends its weights, and takes what the server has made of them. */
const [, , way, port, mebibytes] = process.argv as [string, string, Way, string, string];
const FLOATS = 4 * 1024 * 1024;
const PING_MS = 10;

const weights: Weight[] = Array.from({ length: Number(mebibytes) / 16 }, (_, i) => ({
  dtype: "F32",
  shape: [FLOATS / 1024, 1024],
  data: new Float32Array(FLOATS).fill(i + 1),
}));

const webSocket = new WebSocket(`ws://127.0.0.1:${port}`, {
  maxPayload: 2 ** 31 - 1,
  perMessageDeflate: false,
});
const shared = way === "channel" ? shareSocket(webSocket) : undefined;
const socket = shared?.socket ?? webSocket;
await once(socket, "open");

let longestPingMs = 0;
let arrived: (weights: readonly Weight[]) => void = () => {};
socket.on("message", (data) => {
  const message = unpacked(data);
  if (message.type === "ping") longestPingMs = Math.max(longestPingMs, performance.now() - message.at);
  else arrived(unpackWeights(message.weights));
});

async function exchange(): Promise<readonly Weight[]> {
  if (shared) {
    await streamModel(weights, shared.channel);
    const tensors = await tensorList(receiveModel(shared.channel));
    return tensors.map(({ shape, data }) => ({ dtype: "F32", shape, data: floats(data) }));
  }
  const answer = new Promise<readonly Weight[]>((resolve) => {
    arrived = resolve;
  });
  socket.send(packed(packWeights(weights)));
  return answer;
}

const pings = setInterval(() => socket.send(packed({ type: "ping", at: performance.now() })), PING_MS);
const began = performance.now();
const back = await exchange();
const seconds = (performance.now() - began) / 1000;
clearInterval(pings);
const right = back.every(({ data }, i) => data.every((value) => value === (i + 1) / 2));
if (!right || back.length !== weights.length) throw new Error("what came back is not what was to be");
const account: Account = { seconds, peakRssBytes: process.resourceUsage().maxRSS * 1024, longestPingMs };
process.send!(account);
socket.close();
process.disconnect();
