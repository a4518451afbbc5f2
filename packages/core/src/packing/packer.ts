import { decompress } from "fzstd";

/** Makes zstd frames (RFC 8878), and undoes them. Synchronous; whatever it makes, any other one undoes. */
export interface Packer {
  /** For summaries and notices: `zstd-napi`, … */
  readonly name: string;
  /**
   * Writes one frame with `bytes` and their number to the beginning of `target`.
   * @returns the frame's length; 0 where it does not fit, or where nothing is packed here.
   */
  pack(bytes: Uint8Array, target: Uint8Array): number;
  /** Fills `target` from one frame of exactly that many bytes. What it throws, or leaves behind then, means nothing. */
  unpack(frame: Uint8Array, target: Uint8Array): void;
}

/** Undoes what others pack, in any runtime, and packs nothing itself. */
export const unpackOnly: Packer = {
  name: "fzstd",
  pack: () => 0,
  unpack(frame, target) {
    decompress(frame, target);
  },
};
