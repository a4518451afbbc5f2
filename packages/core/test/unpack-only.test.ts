import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { unpackOnly, xxh64 } from "../src/index.js";
import { compressedBlock, concatenated, rawBlock, zstdFrame } from "../src/testing/zstd-frames.js";

// Frames of libzstd 1.5.7, at many levels: together they have every kind of literals, tables and sequences that it makes.
interface Made {
  readonly level: number;
  readonly parts: readonly string[];
  readonly bytes: number;
  readonly xxh64: string;
  readonly frame: string;
}
const made = JSON.parse(
  readFileSync(new URL("./fixtures/zstd-frames.json", import.meta.url), "utf8"),
) as Made[];

await unpackOnly.load!();

const frameOf = ({ frame }: Made) => Uint8Array.from(Buffer.from(frame, "base64"));

/** What is behind a frame's header: it has a window, no checksum and no dictionary, or is of a single segment. */
function blocksOf(frame: Uint8Array): Uint8Array {
  const single = (frame[4]! & 0x20) !== 0;
  return frame.subarray((single ? 5 : 6) + [single ? 1 : 0, 2, 4, 8][frame[4]! >>> 6]!);
}

/** Unpacks into room that has bytes behind it. */
function unpack(frame: Uint8Array, bytes: number): Uint8Array {
  const room = new Uint8Array(bytes + 64).fill(0xa5);
  try {
    unpackOnly.unpack(frame, room.subarray(0, bytes));
  } finally {
    expect(room.subarray(bytes).every((byte) => byte === 0xa5)).toBe(true);
  }
  return room.subarray(0, bytes);
}

describe("what unpacks in any runtime", () => {
  it.each(made)("undoes libzstd's frames: level $level, $parts", (each) => {
    const hash = xxh64(unpack(frameOf(each), each.bytes));
    expect(hash.toString(16).padStart(16, "0")).toBe(each.xxh64);
  });

  it("has been shown all that RFC 8878 has of blocks", () => {
    const parts = new Set(made.flatMap(({ parts }) => parts));
    for (const part of [
      "checksum",
      "weights direct",
      "weights fse",
      "lit2.0",
      "lit2.1",
      "lit3.1",
      "ns0",
      "ns2",
    ]) {
      expect(parts).toContain(part);
    }
    // Tables: the usual one, of one code, of the block's own, of the block before.
    for (const kind of ["ll", "of", "ml"]) {
      for (const mode of [0, 1, 2, 3]) expect(parts).toContain(`${kind}${mode}`);
    }
  });

  it("refuses a content of another length, and a frame that ends early", () => {
    for (const each of made) {
      const frame = frameOf(each);
      for (const bytes of [0, each.bytes - 1, each.bytes + 1]) expect(() => unpack(frame, bytes)).toThrow();
      for (const cut of [1, 2, 5]) expect(() => unpack(frame.subarray(0, -cut), each.bytes)).toThrow();
    }
  });

  it("refuses blocks whose content is not as long as the frame says", () => {
    for (const each of made.filter(({ parts }) => !parts.includes("checksum"))) {
      const blocks = blocksOf(frameOf(each));
      expect(unpack(zstdFrame([blocks], each.bytes), each.bytes)).toHaveLength(each.bytes);
      for (const bytes of [each.bytes - 1, each.bytes + 1]) {
        expect(() => unpack(zstdFrame([blocks], bytes), bytes)).toThrow();
      }
    }
  });

  it("refuses a wrong checksum", () => {
    const [each] = made.filter(({ parts }) => parts.includes("checksum")) as [Made];
    const frame = frameOf(each);
    frame[frame.length - 1]! ^= 1;
    expect(() => unpack(frame, each.bytes)).toThrow();
  });

  it("takes no more time than content: a few bytes can ask for a hundred thousand matches of 64 KiB", () => {
    // 32,767 sequences, all of them code 52 of match lengths, without one bit.
    const matches = Uint8Array.of(0, 0xff, 0xff, 0, 0x54, 0, 0, 52, 1);
    const frame = zstdFrame([rawBlock(new Uint8Array(500), false), compressedBlock(matches)], 1000);
    expect(() => unpack(frame, 1000)).toThrow();
    // The same with as many bits as one of them takes.
    const bits = concatenated([matches.subarray(0, -1), Uint8Array.of(0, 0, 1)]);
    expect(() =>
      unpack(zstdFrame([rawBlock(new Uint8Array(500), false), compressedBlock(bits)], 1000), 1000),
    ).toThrow();
  });

  it("writes nowhere else, whatever byte of a frame is another", () => {
    for (const each of made.filter(({ bytes }) => bytes < 2000)) {
      for (let at = 0; at < frameOf(each).length; at++) {
        for (const flip of [1, 16, 255]) {
          const frame = frameOf(each);
          frame[at]! ^= flip;
          try {
            unpack(frame, each.bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
            expect(String(error)).not.toContain("offset is out of bounds");
          }
        }
      }
    }
  });
});
