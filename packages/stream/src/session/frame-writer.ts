import type { Channel } from "@tensorwire/core";

/** Writes whole frames to a channel, and counts the writes: what is under way, and whether anything has left lately. */
export class FrameWriter {
  #written = 0;
  #writing = 0;

  constructor(private readonly channel: Channel) {}

  /** Writes that are done. */
  get written(): number {
    return this.#written;
  }

  /** Writes under way. */
  get writing(): number {
    return this.#writing;
  }

  /** Resolves when the bytes may be reused. */
  async write(parts: readonly Uint8Array[]): Promise<void> {
    this.#writing++;
    try {
      await this.channel.send(parts);
      this.#written++;
    } finally {
      this.#writing--;
    }
  }
}
