import type { Channel } from "@tensorwire/core";

/** The sending end of a way. */
export interface Pour {
  /** Resolves when the parts may be used again, and there is room for more. */
  write(parts: readonly Uint8Array[]): Promise<void>;
  end(): Promise<void>;
}

/** A way for bytes from one process to another: a channel, or what channels are measured against. */
export interface Way {
  /** Takes one peer, and says where that is to go. `came` is called with the length of all that comes. */
  receive(came: (bytes: number) => void): Promise<string>;
  send(address: string): Promise<Pour>;
}

/** A way on which the sender waits to be asked. */
export interface PulledWay {
  /** Says where to ask, and gives what is written to whoever does. */
  offer(): Promise<{ readonly address: string; readonly pour: Promise<Pour> }>;
  take(address: string, came: (bytes: number) => void): Promise<void>;
}

/** A way from a process to itself. */
export type InnerWay = (came: (bytes: number) => void) => Pour;

export function pourInto(channel: Channel): Pour {
  channel.open({ bytes: () => {}, end: () => {} });
  return { write: (parts) => channel.send(parts), end: () => channel.close() };
}

export function drain(channel: Channel, came: (bytes: number) => void): void {
  channel.open({ bytes: (portion) => came(portion.length), end: () => void channel.close() });
}
