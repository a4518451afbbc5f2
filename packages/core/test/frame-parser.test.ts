import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS, FrameParser, FrameType, PREAMBLE } from "../src/index.js";
import {
  encodeData,
  eventsOf,
  type Frame,
  join,
  parse,
  Recorder,
  SAMPLE,
  streamOf,
} from "./frame-recorder.js";

const controlTypes = Object.values(FrameType).filter(
  (type) => type !== FrameType.DATA && type !== FrameType.INDEX,
);
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({
    type: fc.constantFrom(...controlTypes),
    transfer: u32,
    flags: fc.constantFrom(0, 1),
    body: fc.uint8Array({ maxLength: 100 }),
  }),
  fc.record({
    transfer: u32,
    payloads: fc.array(fc.uint8Array({ maxLength: 100 }), { minLength: 1, maxLength: 5 }),
  }),
);

/** `bytes` in portions that end at `cuts`. */
function* cut(bytes: Uint8Array, cuts: Iterable<number>): Generator<Uint8Array> {
  let at = 0;
  for (const end of cuts) {
    yield bytes.subarray(at, end);
    at = end;
  }
  yield bytes.subarray(at);
}

describe("FrameParser", () => {
  it("tells the frames that were written, in their order", () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), (frames) => {
        const { recorder, parser, error } = parse([streamOf(frames)]);
        expect(error).toBeUndefined();
        expect(recorder.events).toEqual(eventsOf(frames));
        expect(recorder.pool.loans).toBe(0);
        expect(parser.atBoundary).toBe(true);
      }),
    );
  });

  it("tells the same wherever the stream is cut in two", () => {
    const bytes = streamOf(SAMPLE);
    const expected = eventsOf(SAMPLE);
    for (let at = 0; at <= bytes.length; at++) {
      expect(parse(cut(bytes, [at])).recorder.events, `cut at ${at}`).toEqual(expected);
    }
  });

  it.each([1, 2, 3, 7, 23, 24, 25, 64])("tells the same in portions of %i bytes", (size) => {
    const bytes = streamOf(SAMPLE);
    const cuts = Array.from({ length: Math.floor(bytes.length / size) }, (_, i) => (i + 1) * size);
    const { recorder, error } = parse(cut(bytes, cuts));
    expect(error).toBeUndefined();
    expect(recorder.events).toEqual(eventsOf(SAMPLE));
  });

  it("tells the same in any portions, empty ones too", () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 5 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
        (frames, places) => {
          const bytes = streamOf(frames);
          const cuts = places.map((place) => Math.floor(place * bytes.length)).sort((a, b) => a - b);
          const { recorder } = parse(cut(bytes, cuts));
          expect(recorder.events).toEqual(eventsOf(frames));
        },
      ),
    );
  });

  it("knows whether it is between two frames, and where else", () => {
    const bytes = streamOf(SAMPLE);
    const boundaries = new Set<number>([PREAMBLE.length]);
    for (let i = 1; i <= SAMPLE.length; i++) boundaries.add(streamOf(SAMPLE.slice(0, i)).length);
    const positions = new Set<string>();
    const parser = new FrameParser(new Recorder(), DEFAULT_LIMITS);
    for (let at = 0; at < bytes.length; at++) {
      positions.add(parser.position);
      parser.push(bytes.subarray(at, at + 1));
      expect(parser.atBoundary, `after byte ${at}`).toBe(boundaries.has(at + 1));
    }
    expect([...positions].sort()).toEqual([
      "before the first frame",
      "between two frames",
      "within a CREDIT frame",
      "within a DATA frame",
      "within a HELLO frame",
      "within a MANIFEST frame",
      "within a frame's header",
    ]);
  });

  it("takes as many empty payloads as a table may hold", () => {
    const payloads = new Array<Uint8Array>(DEFAULT_LIMITS.maxRecords).fill(new Uint8Array(0));
    const { recorder, error, parser } = parse([streamOf([{ transfer: 1, payloads }])]);
    expect(error).toBeUndefined();
    expect(parser.atBoundary).toBe(true);
    expect(recorder.events).toHaveLength(1 + 2 * payloads.length);
    // More than a call stack could nest, where the limit was raised.
    const many = new Array<Uint8Array>(100_000).fill(new Uint8Array(0));
    const raised = parse([join(PREAMBLE, encodeData(1, many))], new Recorder(), { maxRecords: many.length });
    expect(raised.error).toBeUndefined();
    expect(raised.recorder.events).toHaveLength(1 + 2 * many.length);
  });
});
