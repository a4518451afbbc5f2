import { type Channel, type ChannelReceiver, FrameType, PREAMBLE } from "@tensorwire/core";

/** One frame on its way, whole. The first one of a channel carries the preamble before it. */
export interface TravellingFrame {
  readonly type: number;
  /** How many frames have been sent on this channel before it. */
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** What arrives instead of a frame: nothing, something else, several; `"close"` ends the channel there. */
export type Tampering = (frame: TravellingFrame) => readonly (Uint8Array | "close" | "drop")[];

/** A channel whose outgoing frames pass through `tamper`. It relies on a connection that sends whole frames. */
export function tampered(channel: Channel, tamper: Tampering): Channel {
  let index = 0;
  return {
    kind: `tampered ${channel.kind}`,
    direction: channel.direction,
    open: (receiver: ChannelReceiver) => channel.open(receiver),
    close: (error?: Error) => channel.close(error),
    async send(parts) {
      const bytes = Buffer.concat(parts);
      const header = index === 0 ? bytes.subarray(PREAMBLE.length) : bytes;
      const frame = { type: header[1]!, index: index++, bytes };
      for (const instead of tamper(frame)) {
        if (instead === "close") await channel.close();
        else if (instead === "drop") await channel.close(new Error("dropped by the test"));
        else await channel.send([instead]);
      }
    },
  };
}

export const frameNames = new Map<number, string>(
  Object.entries(FrameType).map(([name, type]) => [type, name]),
);

/** A copy with one bit turned over. */
export function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}
