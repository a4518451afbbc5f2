import { once } from "node:events";
import { open, readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { decode, encode } from "@msgpack/msgpack";
import { parseSafetensorsHeader, SAFETENSORS_PREFIX_BYTES, safetensorsHeaderLength } from "@tensorwire/core";
import WebSocket, { WebSocketServer } from "ws";
import type { BareWay } from "./way.js";

interface Message {
  readonly header: Uint8Array;
  readonly tensors: readonly { readonly name: string; readonly data: Uint8Array }[];
}

/** The whole model as one message of msgpack: read, encoded, sent, received, decoded, written. */
export const way: BareWay = {
  async send(path, peer) {
    const socket = new WebSocket(`ws://127.0.0.1:${peer.address()}`, { perMessageDeflate: false });
    await once(socket, "open");
    const bytes = await readFile(path);
    await new Promise<void>((resolve, reject) => {
      socket.send(encode(messageOf(bytes)), (error) => (error ? reject(error) : resolve()));
    });
    socket.close();
    await once(socket, "close");
  },
  async receive(path, { listening }) {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1", maxPayload: 2 ** 32 });
    await once(server, "listening");
    listening(String((server.address() as AddressInfo).port));
    const [socket] = (await once(server, "connection")) as [WebSocket];
    const [message] = (await once(socket, "message")) as [Buffer];
    const { header, tensors } = decode(message) as Message;
    const file = await open(path, "w");
    await file.writeFile(header);
    for (const { data } of tensors) await file.writeFile(data);
    await file.close();
    server.close();
  },
};

function messageOf(bytes: Uint8Array): Message {
  const begin = SAFETENSORS_PREFIX_BYTES + safetensorsHeaderLength(bytes, bytes.length);
  const { tensors } = parseSafetensorsHeader(bytes.subarray(SAFETENSORS_PREFIX_BYTES, begin), bytes.length);
  return {
    header: bytes.subarray(0, begin),
    tensors: tensors.map(({ info: { name }, begin: from, end }) => ({
      name,
      data: bytes.subarray(begin + from, begin + end),
    })),
  };
}
