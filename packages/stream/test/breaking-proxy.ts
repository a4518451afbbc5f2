import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Stands between a peer that dials and a TCP port, and breaks each connection after so many bytes, either way. */
export class BreakingProxy {
  readonly #sockets = new Set<Socket>();
  /** Connections that it broke. */
  broken = 0;
  connections = 0;

  private constructor(
    private readonly server: Server,
    private readonly budgets: number[],
  ) {}

  /** @param budgets Bytes of each connection, in their order; those after them stay whole. */
  static async open(port: number, budgets: readonly number[]): Promise<BreakingProxy> {
    const server = createServer();
    const proxy = new BreakingProxy(server, [...budgets]);
    server.on("connection", (socket) => proxy.#join(socket, connect(port, "127.0.0.1")));
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return proxy;
  }

  get url(): string {
    return `tcp://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  #join(near: Socket, far: Socket): void {
    this.connections++;
    let left = this.budgets.shift() ?? Number.POSITIVE_INFINITY;
    const drop = (): void => {
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", drop);
      from.on("close", () => this.#sockets.delete(from));
      from.on("end", () => to.end());
      from.on("data", (portion: Buffer) => {
        if (left <= 0) return;
        const part = portion.subarray(0, left);
        left -= portion.length;
        to.write(part);
        if (left > 0) return;
        this.broken++;
        // What it carried arrives before the end of it does.
        setImmediate(drop);
      });
    }
  }

  close(): void {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
