/** Bringing a file over without us. Each is a module of its own, so that a process imports what it needs and no more. */
export interface BareWay {
  send(path: string, peer: Peer): Promise<void>;
  receive(path: string, peer: Peer): Promise<void>;
}

/** The other end: one of the two listens and says where, the other asks. */
export interface Peer {
  listening(address: string): void;
  address(): string;
}

export const BARE_WAYS = ["copy", "aligned-copy", "gzip", "undici", "msgpack"] as const;
export type BareWayName = (typeof BARE_WAYS)[number];
