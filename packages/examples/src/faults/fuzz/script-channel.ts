import {
  type Channel,
  type ChannelReceiver,
  HEADER_BYTES,
  PROTOCOL_VERSION,
  TensorwireError,
} from "@tensorwire/core";
import { isCounted } from "./frame.js";

/** A channel whose other end is a script: what is sent is heard, and no more; what comes is put in by hand. */
export class ScriptChannel implements Channel {
  readonly kind = "script";
  /** Counted frames that the victim has sent. */
  heard = 0;
  closed = false;
  #receiver: ChannelReceiver | undefined;
  #ended = false;

  constructor(readonly direction: "both" | "receive") {}

  get opened(): boolean {
    return this.#receiver !== undefined;
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    if (this.#ended) setImmediate(() => receiver.end());
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.closed) throw new TensorwireError("CHANNEL_CLOSED", "the script's channel is closed");
    for (const part of parts) this.#hear(part);
  }

  /** Counts the frames that begin in a part; payloads come in parts of their own, and few look like a frame. */
  #hear(part: Uint8Array): void {
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    for (let at = 0; at + HEADER_BYTES <= part.length && part[at] === PROTOCOL_VERSION; ) {
      if (isCounted(part[at + 1]!)) this.heard++;
      at += HEADER_BYTES + view.getUint32(at + 8, true);
    }
  }

  /** Delivers bytes to the victim. */
  deliver(bytes: Uint8Array): void | Promise<void> {
    if (!this.#ended) return this.#receiver?.bytes(bytes);
  }

  /** The script is over. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#receiver?.end();
  }

  async close(): Promise<void> {
    this.closed = true;
    setImmediate(() => this.end());
  }
}
