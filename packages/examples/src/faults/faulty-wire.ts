import { once } from "node:events";
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Meddler, type Way, type WireFault } from "./wire-fault.js";

/** Where a wire begins or ends: a port of this machine, or a socket's path. */
export type Place = { readonly port: number; readonly host: string } | { readonly path: string };

export interface WireOptions {
  /** Where its far end is, to begin with. */
  readonly to: Place;
  /** Where it listens: a free port without it. */
  readonly path?: string | undefined;
  readonly fault?: WireFault | undefined;
  /** Keep what passes, to look at where the fault was. */
  readonly keep?: boolean | undefined;
}

/** A proxy for connections, of any protocol, that meddles with what passes. */
export class FaultyWire {
  readonly #sockets = new Set<Socket>();
  readonly #meddlers: Record<Way, Meddler>;
  #open = 0;
  /** Where connections go from now on. */
  to: Place;
  /** Told whenever bytes have passed. */
  onPassed: ((way: Way, bytes: number) => void) | undefined;

  private constructor(
    private readonly server: Server,
    options: WireOptions,
  ) {
    const { fault, keep = false } = options;
    this.to = options.to;
    const meddler = (way: Way): Meddler => new Meddler(fault?.way === way ? fault : undefined, keep);
    // Of all its connections together: a channel of many requests has many.
    this.#meddlers = { "to listener": meddler("to listener"), "to dialer": meddler("to dialer") };
    server.on("connection", (near) => void this.#join(near));
  }

  static async open(options: WireOptions): Promise<FaultyWire> {
    const server = createServer({ allowHalfOpen: true });
    const wire = new FaultyWire(server, options);
    if (options.path === undefined) server.listen(0, "127.0.0.1");
    else server.listen(options.path);
    await once(server, "listening");
    return wire;
  }

  /** Where to dial instead. */
  get place(): Place {
    const address = this.server.address();
    if (typeof address === "string") return { path: address };
    return { host: "127.0.0.1", port: address!.port };
  }

  /** What passed one way. */
  passed(way: Way): Meddler {
    return this.#meddlers[way];
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#open;
  }

  async #join(near: Socket): Promise<void> {
    const far = connect({ ...this.to, allowHalfOpen: true } as NetConnectOpts);
    this.#open++;
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
    }
    // One that is reset is reset at the other end too.
    near.once("close", (failed) => failed && far.destroy());
    far.once("close", (failed) => failed && near.destroy());
    await Promise.all([this.#carry(near, far, "to listener"), this.#carry(far, near, "to dialer")]);
    this.#open--;
    for (const socket of [near, far]) {
      socket.destroy();
      this.#sockets.delete(socket);
    }
  }

  async #carry(from: Socket, to: Socket, way: Way): Promise<void> {
    const meddler = this.#meddlers[way];
    let lost = false;
    try {
      for await (const portion of from) {
        for (const step of meddler.steps(portion as Buffer)) {
          // After a half-close what comes is lost, and whoever sends it learns nothing of that.
          if (lost) continue;
          if (step instanceof Uint8Array) await write(to, step);
          else if (step === "stall") return await gone(to);
          else if (step === "cut") return reset(from, to);
          else if (step !== "half-close") await sleep(step.pauseMs);
          else {
            to.end();
            lost = true;
          }
        }
        this.onPassed?.(way, (portion as Buffer).length);
      }
      if (!lost) to.end();
    } catch {
      to.destroy();
    }
  }

  get closed(): boolean {
    return !this.server.listening;
  }

  /** Cuts every connection, in the middle of whatever it is. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    this.cut();
    await closed;
  }
}

/** A portion a turn: what goes out together arrives together. */
async function write(to: Socket, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return;
  if (!to.writable) throw new Error("nobody is there");
  if (!to.write(bytes)) await drained(to);
  await new Promise((resolve) => setImmediate(resolve));
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off("drain", done).off("close", done);
      resolve();
    };
    socket.on("drain", done).on("close", done);
  });
}

function gone(socket: Socket): Promise<void> {
  return socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once("close", resolve));
}

function reset(from: Socket, to: Socket): void {
  from.resetAndDestroy();
  to.resetAndDestroy();
}
