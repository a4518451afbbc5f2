import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { COUNT_BYTES, FrameType, HEADER_BYTES, PREAMBLE, RECORD_BYTES, xxh64 } from "../src/index.js";
import { encode, eventsOf, type Frame, parse, Recorder, recordOf, streamOf } from "./frame-recorder.js";

const DETECTED = ["FRAME_CORRUPT", "VERSION_UNSUPPORTED", "PROTOCOL", "LIMIT_EXCEEDED"];

const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const random = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 151 + 43) % 256);
const FRAMES: readonly Frame[] = [
  { type: FrameType.HELLO, transfer: 0, flags: 0, body: text({ versions: [1], role: "any" }) },
  { type: FrameType.MANIFEST, transfer: 1, flags: 0, body: text({ tensors: [["a", "F32", [4, 4], 0]] }) },
  { type: FrameType.WANT, transfer: 1, flags: 1, body: random(24) },
  { type: FrameType.PING, transfer: 0, flags: 0, body: new Uint8Array(0) },
  { transfer: 1, payloads: [random(40)] },
  { transfer: 1, payloads: [random(8), new Uint8Array(0), random(300)] },
  { type: FrameType.CREDIT, transfer: 1, flags: 1, body: random(16) },
  { type: FrameType.END, transfer: 1, flags: 0, body: random(32) },
  { type: FrameType.ERROR, transfer: 1, flags: 1, body: text({ code: "ABORTED", message: "" }) },
];

/** Bytes of a frame that its own checksums cover: all but payloads. */
function covered(frame: Frame): number {
  if ("payloads" in frame) return HEADER_BYTES + COUNT_BYTES + frame.payloads.length * RECORD_BYTES;
  return HEADER_BYTES + frame.body.length;
}

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = bytes.slice();
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

describe("one flipped bit", () => {
  it("of the preamble is detected", () => {
    const bytes = streamOf(FRAMES);
    for (let bit = 0; bit < PREAMBLE.length * 8; bit++) {
      const { error, recorder } = parse([flip(bytes, bit)]);
      expect(error?.code, `bit ${bit}`).toBe("PROTOCOL");
      expect(recorder.events).toEqual([]);
    }
  });

  const named = FRAMES.map((frame, i) => {
    const name = "payloads" in frame ? `DATA with ${frame.payloads.length} chunks` : `type ${frame.type}`;
    return [name, i] as const;
  });

  it.each(named)("of %s is detected before the frame is over, and nothing of it is believed", (_name, i) => {
    const before = FRAMES.slice(0, i);
    const start = streamOf(before).length;
    const expected = eventsOf(before);
    // Not a byte more than the frame itself: nothing may be waited for.
    const bytes = streamOf(FRAMES.slice(0, i + 1));
    for (let bit = start * 8; bit < (start + covered(FRAMES[i]!)) * 8; bit++) {
      const { error, recorder } = parse([flip(bytes, bit)]);
      expect(DETECTED, `bit ${bit - start * 8}`).toContain(error?.code);
      expect(recorder.verified).toEqual(expected.filter((event) => !event.startsWith("admit")));
      expect(recorder.pool.loans).toBe(0);
    }
  });

  it("of a payload is its hash's to find", () => {
    const payload = random(40);
    const frame: Frame = { transfer: 1, payloads: [payload] };
    const bytes = streamOf([frame]);
    const start = bytes.length - payload.length;
    for (let bit = start * 8; bit < bytes.length * 8; bit++) {
      const recorder = new Recorder();
      let hash: bigint | undefined;
      recorder.payload = (_header, record, loan) => {
        expect(record).toEqual(recordOf(payload));
        hash = xxh64(loan.bytes);
        loan.release();
      };
      expect(parse([flip(bytes, bit)], recorder).error).toBeUndefined();
      expect(hash).not.toBe(recordOf(payload).hash);
    }
  });
});

describe("other damage", () => {
  const verifiedOf = (frames: readonly Frame[]) =>
    eventsOf(frames).filter((event) => !event.startsWith("admit"));

  it("is detected, whatever bytes change to", () => {
    const bytes = streamOf(FRAMES);
    const places: number[] = [];
    let start = PREAMBLE.length;
    for (const frame of FRAMES) {
      for (let at = 0; at < covered(frame); at++) places.push(start + at);
      start += encode(frame).length;
    }
    fc.assert(
      fc.property(
        fc.constantFrom(...places),
        fc.uint8Array({ minLength: 1, maxLength: 12 }),
        (at, replacement) => {
          const damaged = bytes.slice();
          damaged.set(replacement.subarray(0, damaged.length - at), at);
          fc.pre(damaged[at] !== bytes[at]);
          const { error, recorder } = parse([damaged]);
          expect(DETECTED).toContain(error?.code);
          const verified = verifiedOf(FRAMES);
          expect(recorder.verified).toEqual(verified.slice(0, recorder.verified.length));
          expect(recorder.verified.length).toBeLessThan(verified.length);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is detected where bytes are missing or added within a frame", () => {
    const bytes = streamOf(FRAMES);
    for (let at = PREAMBLE.length; at < bytes.length; at += 3) {
      const missing = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
      const { error, parser } = parse([missing]);
      // A byte that is missing at the very end leaves the parser within a frame, which is for the channel's end to see.
      if (!error) expect(parser.atBoundary, `without byte ${at}`).toBe(false);
      const added = Buffer.concat([bytes.subarray(0, at), Uint8Array.of(0x5a), bytes.subarray(at)]);
      const more = parse([added]);
      if (!more.error) expect(more.parser.atBoundary, `with a byte at ${at}`).toBe(false);
    }
  });

  it("is seen in a stream that ends within a frame, at every byte", () => {
    const bytes = streamOf(FRAMES);
    const boundaries = new Set(FRAMES.map((_, i) => streamOf(FRAMES.slice(0, i)).length));
    for (let at = 0; at < bytes.length; at++) {
      const { error, parser, recorder } = parse([bytes.subarray(0, at)]);
      expect(error).toBeUndefined();
      expect(parser.atBoundary, `cut at ${at}`).toBe(boundaries.has(at));
      parser.close();
      expect(recorder.pool.loans).toBe(0);
    }
  });
});
