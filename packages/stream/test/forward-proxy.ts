import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";

/** What a company puts between its machines and others: tunnels (CONNECT), and requests that it makes for whoever asks. */
export class ForwardProxy {
  /** What was asked of it, as `CONNECT host:port`, or `PUT host:port`. */
  readonly asked: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(private readonly credential: string | undefined) {
    this.#server = createServer((incoming, response) => {
      const url = new URL(incoming.url!);
      this.asked.push(`${incoming.method} ${url.host}`);
      if (!this.#knows(incoming)) return response.writeHead(407).end();
      const { "proxy-authorization": _, ...headers } = incoming.headers;
      const target = {
        host: "127.0.0.1",
        port: url.port,
        method: incoming.method,
        path: url.pathname + url.search,
      };
      const outgoing = request({ ...target, headers });
      outgoing.on("error", () => response.destroy());
      outgoing.on("response", (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      });
      incoming.on("error", () => outgoing.destroy());
      response.on("close", () => outgoing.destroy());
      incoming.pipe(outgoing);
    });
    this.#server.on("connect", (incoming: IncomingMessage, socket: Socket) => {
      this.asked.push(`CONNECT ${incoming.url}`);
      socket.on("error", () => {});
      if (!this.#knows(incoming)) return socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
      // Every name is this machine's, as far as it knows.
      const target = connect(Number(incoming.url!.split(":").pop()), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        socket.pipe(target).pipe(socket);
      });
      target.on("error", () => socket.destroy());
      socket.on("close", () => target.destroy());
      target.on("close", () => socket.destroy());
    });
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  #knows({ headers }: IncomingMessage): boolean {
    if (this.credential === undefined) return true;
    const expected = `Basic ${Buffer.from(this.credential).toString("base64")}`;
    return headers["proxy-authorization"] === expected;
  }

  /** @param credential What it asks for, as `user:password`. */
  static async open(credential?: string): Promise<ForwardProxy> {
    const proxy = new ForwardProxy(credential);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
