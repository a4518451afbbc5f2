import { ZSTDDecoder } from "zstddec";

/** Makes zstd frames (RFC 8878), and undoes them. Synchronous; whatever it makes, any other one undoes. */
export interface Packer {
  /** For summaries and notices: `zstd-napi`, … */
  readonly name: string;
  /** What has to be done, and have ended, before anything is unpacked: once, and again costs nothing. It never rejects. */
  readonly load?: () => Promise<void>;
  /**
   * Writes one frame with `bytes` and their number to the beginning of `target`.
   * @returns the frame's length; 0 where it does not fit, or where nothing is packed here.
   */
  pack(bytes: Uint8Array, target: Uint8Array): number;
  /** Fills `target` from one frame of exactly that many bytes. What it throws, or leaves behind then, means nothing. */
  unpack(frame: Uint8Array, target: Uint8Array): void;
}

// libzstd's own decoder. Compiled by the first who unpacks with it: where codecs are native nobody does, and in Node it takes
// as long as a third of all else that a transfer needs. Where a page's policy forbids WebAssembly, all else works, and
// packed payloads are refused.
const decoder = new ZSTDDecoder();
let unavailable: unknown = new Error("its decoder is not loaded");
let loading: Promise<void> | undefined;

/** Undoes what others pack, in any runtime with WebAssembly, and packs nothing itself. */
export const unpackOnly: Packer = {
  name: "wasm",
  load() {
    loading ??= decoder.init().then(
      () => {
        unavailable = undefined;
      },
      (error: unknown) => {
        unavailable = error;
      },
    );
    return loading;
  },
  pack: () => 0,
  unpack(frame, target) {
    if (unavailable !== undefined) throw unavailable;
    // What it cannot decompress it gives back empty.
    const content = decoder.decode(frame, target.length);
    if (content.length !== target.length) throw new Error("it is no zstd frame of this length");
    target.set(content);
  },
};
