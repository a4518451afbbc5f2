import { once } from "node:events";
import { createServer as createHttpServer, request } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import type { Writable } from "node:stream";
import type { Pour, Way } from "./way.js";

const PIECE_BYTES = 256 * 1024;

/** A socket, with nothing around it. */
const tcp: Way = {
  async receive(came) {
    const server = createServer((socket) => {
      socket.on("data", (portion) => came(portion.length));
      server.close();
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return String((server.address() as AddressInfo).port);
  },
  async send(port) {
    const socket = connect(Number(port), "127.0.0.1");
    await once(socket, "connect");
    return pour(socket);
  },
};

/** The body of one request. */
const http: Way = {
  async receive(came) {
    const server = createHttpServer((message, response) => {
      message.on("data", (portion: Buffer) => came(portion.length));
      message.on("end", () => response.end());
      server.close();
    }).listen(0, "127.0.0.1");
    server.requestTimeout = 0;
    await once(server, "listening");
    return String((server.address() as AddressInfo).port);
  },
  async send(port) {
    const posting = request({ host: "127.0.0.1", port: Number(port), method: "POST" });
    posting.on("response", (response) => response.resume());
    return pour(posting);
  },
};

/** Between the two ends of a shell's `|`. */
const pipe: Way = {
  async receive(came) {
    process.stdin.on("data", (portion: Buffer) => came(portion.length));
    return "";
  },
  async send() {
    return pour(process.stdout);
  },
};

function pour(stream: Writable): Pour {
  return {
    async write(parts) {
      let room = true;
      stream.cork();
      for (const part of parts) room = stream.write(part);
      stream.uncork();
      if (!room) await once(stream, "drain");
    },
    async end() {
      stream.end();
      await once(stream, "finish");
    },
  };
}

/** The same, in writes of the size of a WebSocket's messages. */
const tcpInPieces: Way = {
  receive: tcp.receive,
  async send(port) {
    const { write, end } = await tcp.send(port);
    return {
      async write(parts) {
        for (const part of parts) {
          for (let at = 0; at < part.length; at += PIECE_BYTES) {
            await write([part.subarray(at, at + PIECE_BYTES)]);
          }
        }
      },
      end,
    };
  },
};

export const BARE_WAYS: Readonly<Record<string, Way>> = {
  "bare TCP": tcp,
  "bare TCP, 256 KiB writes": tcpInPieces,
  "bare http POST": http,
  pipe,
};
