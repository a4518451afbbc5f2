import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/**
 * A line to a TCP port that can be cut, or go dead: then nothing passes, and neither end hears of it. What a lost network,
 * or a host without power, looks like.
 */
export class FaultyLine {
  readonly #sockets = new Set<Socket>();
  #frozen = false;

  private constructor(private readonly server: Server) {}

  static async to(url: string): Promise<FaultyLine> {
    const { hostname, port } = new URL(url);
    const server = createServer({ pauseOnConnect: true });
    const line = new FaultyLine(server);
    server.on("connection", (near) => line.#join(near, connect(Number(port), hostname)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return line;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  #join(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => {});
      from.on("data", (portion) => void (this.#frozen || to.write(portion)));
      from.on("end", () => void (this.#frozen || to.end()));
    }
    near.resume();
  }

  freeze(): void {
    this.#frozen = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** Both ends hear of it; whoever dials again gets through. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}
