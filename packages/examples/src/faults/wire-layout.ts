import type { ChannelName } from "./arrangement.js";
import type { Way } from "./wire-fault.js";

/** Which bytes of a way are the transfer's, and under its checks. */
export interface WireLayout {
  /** Before it: how the channel is opened, which is other people's protocol. */
  readonly first: number;
  /** From here on: how the channel says that it closes, after everything that matters. */
  readonly end: number;
}

/** @param dialed Whether the bytes go to the listening end. */
export function wireLayout(channel: ChannelName, way: Way, bytes: Buffer): WireLayout {
  switch (channel) {
    case "tcp":
    case "unix":
    // What comes of damage to its requests is seen in what the channel asks for again.
    case "http":
    case "https":
      return { first: 0, end: bytes.length };
    case "ws": {
      // A close frame: 2 bytes, a code of 2, and of a client a mask of 4.
      const first = bytes.indexOf("\r\n\r\n") + 4;
      return { first, end: bytes.length - (way === "to listener" ? 8 : 4) };
    }
    case "tls":
    case "wss":
      return { first: firstSealed(bytes), end: bytes.length - SEALED_FAREWELL };
  }
}

const APPLICATION_DATA = 23;
const RECORD_HEAD = 5;
/** Alerts, and a close frame, each in a record of its own. */
const SEALED_FAREWELL = 96;

/** Where TLS' first record begins that is authenticated, head and all: of those before it some bytes mean nothing. */
function firstSealed(bytes: Buffer): number {
  let at = 0;
  while (at + RECORD_HEAD <= bytes.length && bytes[at] !== APPLICATION_DATA) {
    at += RECORD_HEAD + bytes.readUInt16BE(at + 3);
  }
  return at;
}
