import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

type Way = "toServer" | "toClient";

/** The wire between a client, however many connections it makes, and a server: it can be held up, and cut. */
export class Relay {
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#join(socket));
  /** Both sides of each connection: the client's, the server's. */
  readonly #joined = new Set<readonly [Socket, Socket]>();
  readonly #held = new Set<Way>();
  #cut = false;
  /** Breaks the connections whenever so many bytes have passed that way. */
  cutting: { readonly way: Way; readonly everyBytes: number } | undefined;
  /** How often they were broken so. */
  cuts = 0;
  #passed = 0;

  private constructor(private readonly target: number) {}

  static async to(url: string): Promise<Relay> {
    const relay = new Relay(Number(new URL(url).port));
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #join(client: Socket): void {
    const server = connect({ port: this.target, host: "127.0.0.1", allowHalfOpen: true });
    const pair = [client, server] as const;
    this.#joined.add(pair);
    this.#copy(client, server, "toServer");
    this.#copy(server, client, "toClient");
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#joined.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
    if (this.#cut) this.cut();
  }

  #copy(from: Socket, to: Socket, way: Way): void {
    from.on("data", (portion: Buffer) => {
      if (this.cutting?.way === way && (this.#passed += portion.length) >= this.cutting.everyBytes) {
        this.#passed = 0;
        this.cuts++;
        return this.cut();
      }
      if (to.write(portion)) return;
      from.pause();
      to.once("drain", () => {
        if (!this.#held.has(way)) from.resume();
      });
    });
    from.on("end", () => to.end());
    if (this.#held.has(way)) from.pause();
  }

  /** Takes no more of what goes that way, until the function that it returns is called. */
  hold(way: Way): () => void {
    this.#held.add(way);
    const side = way === "toServer" ? 0 : 1;
    for (const pair of this.#joined) pair[side].pause();
    return () => {
      this.#held.delete(way);
      for (const pair of this.#joined) pair[side].resume();
    };
  }

  /** Breaks the connections that there are. */
  cut(): void {
    for (const pair of this.#joined) for (const socket of pair) socket.resetAndDestroy();
  }

  /** Breaks the connections that there are, and lets no others be. */
  die(): void {
    this.#cut = true;
    this.#server.close();
    this.cut();
  }
}
