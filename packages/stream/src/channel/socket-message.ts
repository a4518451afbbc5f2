/** What a message of a shared WebSocket is, that begins with the mark. All others are the other program's, as they are. */
export const MessageKind = {
  /** A message of the other program that begins as ours do: what stands behind this is that. */
  ESCAPED: 0,
  /** Bytes of a channel. */
  BYTES: 1,
  /** The channel's end, in an orderly way, and otherwise. */
  END: 2,
  FAILED: 3,
} as const;

export type MessageKind = (typeof MessageKind)[keyof typeof MessageKind];

/** Drawn at random: nobody's messages begin so by chance, and those that do on purpose are escaped. */
const MARK = Buffer.from("9c5ef3a1742d4b6e8a0dc35177e9b6f4", "hex");

/** The mark, the kind, and the number of the channel, little-endian. */
export const MESSAGE_HEADER_BYTES = MARK.length + 5;

/** Bytes of one of our messages, all of it: what another message waits behind. */
export const SHARED_MESSAGE_BYTES = 256 * 1024;

export function writeHeader(message: Uint8Array, kind: MessageKind, channel: number): void {
  message.set(MARK);
  message[MARK.length] = kind;
  new DataView(message.buffer, message.byteOffset).setUint32(MARK.length + 1, channel, true);
}

export const isMarked = (message: Uint8Array): boolean =>
  message.length >= MARK.length && MARK.equals(message.subarray(0, MARK.length));

/** Whether it is too short to tell. */
export const beginsMark = (message: Uint8Array): boolean =>
  message.length < MARK.length && MARK.subarray(0, message.length).equals(message);

/** A message that begins with the mark, as one that is not ours. */
export function escaped(message: Uint8Array): Buffer {
  return Buffer.concat([MARK, Buffer.of(MessageKind.ESCAPED), message]);
}

/** A message that begins with the mark; undefined for one that nobody of this library has sent. */
export function readMessage(
  message: Uint8Array,
): { readonly kind: MessageKind; readonly channel: number; readonly body: Uint8Array } | undefined {
  const kind = message[MARK.length];
  if (kind === MessageKind.ESCAPED) return { kind, channel: 0, body: message.subarray(MARK.length + 1) };
  const known = kind === MessageKind.BYTES || kind === MessageKind.END || kind === MessageKind.FAILED;
  if (!known || message.length < MESSAGE_HEADER_BYTES) return undefined;
  const channel = new DataView(message.buffer, message.byteOffset).getUint32(MARK.length + 1, true);
  return { kind, channel, body: message.subarray(MESSAGE_HEADER_BYTES) };
}
