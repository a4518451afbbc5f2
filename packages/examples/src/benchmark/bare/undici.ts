import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { Client } from "undici";
import type { BareWay } from "./way.js";

/** An upload of the whole file, with its length, to Node's server. */
export const way: BareWay = {
  async send(path, peer) {
    const client = new Client(`http://127.0.0.1:${peer.address()}`);
    const { size } = await stat(path);
    const { statusCode, body } = await client.request({
      path: "/",
      method: "PUT",
      headers: { "content-length": String(size) },
      body: createReadStream(path),
    });
    await body.dump();
    await client.close();
    if (statusCode !== 200) throw new Error(`the server answered ${statusCode}`);
  },
  async receive(path, { listening }) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    listening(String((server.address() as AddressInfo).port));
    const [request, response] = (await once(server, "request")) as [IncomingMessage, ServerResponse];
    await pipeline(request, createWriteStream(path));
    response.end();
    server.close();
    await once(server, "close");
  },
};
