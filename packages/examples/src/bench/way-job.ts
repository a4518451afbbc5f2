import { COUNT_BYTES, HEADER_BYTES, RECORD_BYTES } from "@tensorwire/core";

export const CHUNK_BYTES = 4 * 2 ** 20;
/** A DATA frame of one chunk of `none`. */
export const FRAME_BYTES = HEADER_BYTES + COUNT_BYTES + RECORD_BYTES + CHUNK_BYTES;

/** What a process is to do for one way: to be one of its ends, or both. */
export interface WayJob {
  readonly role: "send" | "receive" | "both";
  readonly name: string;
  readonly scratch: string;
  /** Where the receiver is. */
  readonly address?: string;
  /** Frames that count, after those that warm up. */
  readonly frames: number;
  readonly warmUp: number;
}

export interface EndFigures {
  readonly seconds: number;
  readonly cpuSeconds: number;
}
