import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { Peer } from "./way.js";

/** The one connection that comes. */
export async function accepted({ listening }: Peer): Promise<Socket> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  listening(String((server.address() as AddressInfo).port));
  const [socket] = (await once(server, "connection")) as [Socket];
  server.close();
  return socket;
}
