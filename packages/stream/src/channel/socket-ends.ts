import type { Socket } from "node:net";

type Told = (socket: Socket) => void;

/** One listener a socket: a proxy carries the requests of many channels on one, one after another. */
const told = new WeakMap<Socket, Set<Told>>();

/** Hears when one of some sockets closes, and leaves nothing on those that outlive whoever listens. */
export class SocketEnds {
  readonly #open = new Set<Socket>();

  constructor(private readonly onEnd: () => void) {}

  watch(socket: Socket): void {
    if (this.#open.has(socket)) return;
    this.#open.add(socket);
    toldBy(socket).add(this.#ended);
  }

  stop(): void {
    for (const socket of this.#open) told.get(socket)?.delete(this.#ended);
    this.#open.clear();
  }

  readonly #ended: Told = (socket) => {
    this.#open.delete(socket);
    this.onEnd();
  };
}

function toldBy(socket: Socket): Set<Told> {
  const known = told.get(socket);
  if (known) return known;
  const all = new Set<Told>();
  told.set(socket, all);
  socket.once("close", () => {
    for (const tell of all) tell(socket);
  });
  return all;
}
