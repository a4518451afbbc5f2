import {
  type BufferPool,
  encodeFooter,
  FOOTER_BYTES,
  FrameType,
  type Loan,
  PREAMBLE,
} from "@tensorwire/core";
import type { ByteReader } from "@tensorwire/stream";
import type { Draws } from "../draws.js";
import { type Frame, frameBytes } from "./frame.js";

/**
 * Frames as an artifact's file, with a footer that says where they lie.
 * @param lies What decides whether it lies now and then, or the file is cut.
 */
export function artifactFile(frames: readonly Frame[], lies?: Draws): Uint8Array {
  const parts: Uint8Array[] = [PREAMBLE];
  let at = PREAMBLE.length;
  let headBytes = 0;
  let endPosition = 0;
  for (const frame of frames) {
    const bytes = frameBytes(frame);
    if (frame.type === FrameType.END) endPosition = at;
    at += bytes.length;
    if (frame.type === FrameType.MANIFEST) headBytes = at;
    parts.push(bytes);
  }
  const fileBytes = at + FOOTER_BYTES;
  if (lies?.oneIn(10)) headBytes = lies.below(fileBytes);
  if (lies?.oneIn(10)) endPosition = lies.below(fileBytes);
  const footer = encodeFooter({ headBytes, endPosition, fileBytes });
  if (lies?.oneIn(20)) footer[lies.below(FOOTER_BYTES)]! ^= 1 << lies.below(8);
  const file = new Uint8Array(Buffer.concat([...parts, footer]));
  return lies?.oneIn(10) ? file.subarray(0, lies.below(file.length)) : file;
}

/** A file in memory. */
export class FileInMemory implements ByteReader {
  readonly name = "a file in memory";
  readonly size: number;

  constructor(private readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  read(position: number, bytes: number, pool: BufferPool): Loan {
    const loan = pool.lend(bytes);
    loan.bytes.set(this.#within(position, bytes));
    return loan;
  }

  async readInto(position: number, target: Uint8Array): Promise<void> {
    target.set(this.#within(position, target.length));
  }

  #within(position: number, bytes: number): Uint8Array {
    if (position >= 0 && position + bytes <= this.size)
      return this.bytes.subarray(position, position + bytes);
    throw new Error(`bytes ${position} to ${position + bytes} of ${this.size} were read`);
  }

  forget(): void {}

  async verify(): Promise<void> {}

  async close(): Promise<void> {}
}
