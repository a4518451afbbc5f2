import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** What the next answer's body is, and what it goes with. */
export interface RangeAnswer {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array;
}

/** What a server does otherwise than it should: with the answer, or all by itself. */
export type Fault = (
  answer: RangeAnswer,
  request: IncomingMessage,
  response: ServerResponse,
) => RangeAnswer | Promise<RangeAnswer | undefined> | undefined;

/** A web server of one file that knows ranges, and does what a test wants besides. Counts what it sends. */
export class RangeServer {
  readonly requests: {
    readonly method: string;
    readonly range: string | undefined;
    readonly url: string;
    readonly headers: IncomingMessage["headers"];
  }[] = [];
  sentBytes = 0;
  tag: string | undefined = '"first"';
  fault: Fault | undefined;
  /** Requests under way, and the most there were at once. */
  #busy = 0;
  most = 0;
  readonly #server: Server;
  readonly sockets = new Set<Socket>();

  private constructor(
    public content: Uint8Array,
    create: (listener: RequestListener) => Server,
  ) {
    this.#server = create((request, response) => void this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
  }

  static async open(
    content: Uint8Array,
    create: (listener: RequestListener) => Server = (listener) => createServer(listener),
  ): Promise<RangeServer> {
    const server = new RangeServer(content, create);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/m.twire`;
  }

  /** Ranges that were asked for, as they were. */
  get ranges(): string[] {
    return this.requests.flatMap(({ range }) => (range === undefined ? [] : [range]));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = request;
    this.requests.push({ method, range: headers.range, url, headers });
    this.most = Math.max(this.most, ++this.#busy);
    response.on("close", () => this.#busy--);
    const plain = this.#plain(request);
    const answer = this.fault ? await this.fault(plain, request, response) : plain;
    if (!answer) return;
    response.writeHead(answer.status, answer.headers);
    if (method === "HEAD") return void response.end();
    this.sentBytes += answer.body.length;
    response.end(answer.body);
  }

  #plain({ headers }: IncomingMessage): RangeAnswer {
    const { content, tag } = this;
    const head = { ...(tag !== undefined && { etag: tag }), "accept-ranges": "bytes" };
    const all: RangeAnswer = {
      status: 200,
      headers: { ...head, "content-length": String(content.length) },
      body: content,
    };
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    if (first === undefined || last === undefined) return all;
    if (headers["if-range"] !== undefined && headers["if-range"] !== tag) return all;
    if (Number(first) >= content.length) {
      return {
        status: 416,
        headers: { "content-range": `bytes */${content.length}` },
        body: new Uint8Array(),
      };
    }
    const body = content.subarray(Number(first), Number(last) + 1);
    const range = `bytes ${first}-${Number(first) + body.length - 1}/${content.length}`;
    return {
      status: 206,
      headers: { ...head, "content-range": range, "content-length": String(body.length) },
      body,
    };
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.sockets) socket.destroy();
    if (this.#server.listening) await once(this.#server, "close");
  }
}
