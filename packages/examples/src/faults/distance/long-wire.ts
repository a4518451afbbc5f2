import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { Draws } from "../draws.js";

/** A line to somewhere far away. */
export interface Distance {
  /** One way. */
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  /** Packets of which one is lost, on average. */
  readonly lossOneIn: number;
}

const PACKET_BYTES = 1400;
/** What the line's buffers hold beyond what is on its way: an eighth of a second. */
const QUEUE_SECONDS = 0.125;

/**
 * A proxy that is as far away as a real line: bytes arrive late, no faster than the line is, and a lost packet holds up
 * those behind it for as long as it takes to learn of it and to send it again.
 */
export class LongWire {
  readonly #sockets = new Set<Socket>();
  /** When each direction has sent all that it was given: connections share the line. */
  readonly #sent = { there: 0, back: 0 };

  private constructor(
    private readonly server: Server,
    private readonly distance: Distance,
    private readonly draws: Draws,
  ) {}

  static async open(port: number, distance: Distance, seed: number): Promise<LongWire> {
    const server = createServer({ allowHalfOpen: true });
    const wire = new LongWire(server, distance, new Draws(seed));
    server.on("connection", (near) => wire.#join(near, port));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return wire;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  #join(near: Socket, port: number): void {
    const far = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.once("close", () => this.#sockets.delete(socket));
    }
    near.once("close", () => far.destroy());
    far.once("close", () => near.destroy());
    this.#carry(near, far, "there");
    this.#carry(far, near, "back");
  }

  #carry(from: Socket, to: Socket, way: "there" | "back"): void {
    const { delayMs, bytesPerSecond } = this.distance;
    const room = bytesPerSecond * ((2 * delayMs) / 1000 + QUEUE_SECONDS);
    let held = 0;
    /** When all of it is there. */
    let arrived = 0;
    const due: { at: number; bytes: Buffer | undefined }[] = [];
    let timer: NodeJS.Timeout | undefined;
    const deliver = (): void => {
      timer = undefined;
      const now = performance.now();
      while (due.length && due[0]!.at <= now) {
        const { bytes } = due.shift()!;
        if (!bytes) to.end();
        else {
          held -= bytes.length;
          if (to.writable) to.write(bytes);
        }
      }
      if (held < room) from.resume();
      if (due.length) timer = setTimeout(deliver, Math.max(1, due[0]!.at - performance.now()));
    };
    const put = (bytes: Buffer | undefined, at: number): void => {
      due.push({ at, bytes });
      timer ??= setTimeout(deliver, Math.max(1, at - performance.now()));
    };
    from.on("data", (portion: Buffer) => {
      for (let at = 0; at < portion.length; at += PACKET_BYTES) {
        const packet = portion.subarray(at, at + PACKET_BYTES);
        const begins = Math.max(this.#sent[way], performance.now());
        this.#sent[way] = begins + (packet.length / bytesPerSecond) * 1000;
        let comes = this.#sent[way] + delayMs;
        if (this.draws.oneIn(this.distance.lossOneIn)) comes += 2 * delayMs;
        arrived = Math.max(arrived, comes);
        held += packet.length;
        put(packet, arrived);
      }
      if (held >= room) from.pause();
    });
    from.on("end", () => put(undefined, arrived));
    to.once("close", () => clearTimeout(timer));
  }

  async close(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
