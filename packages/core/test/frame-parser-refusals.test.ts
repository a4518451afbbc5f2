import { describe, expect, it } from "vitest";
import {
  DEFAULT_LIMITS,
  encodeDataHead,
  encodeFrame,
  FrameParser,
  FrameType,
  PREAMBLE,
  TensorwireError,
} from "../src/index.js";
import { eventsOf, parse, Recorder, recordOf, reseal, SAMPLE, streamOf } from "./frame-recorder.js";

describe("FrameParser, given what it must refuse", () => {
  const ping = encodeFrame(FrameType.PING, 0, 0);
  const changed = (bytes: Uint8Array, change: (view: DataView) => void): Uint8Array => {
    const copy = bytes.slice();
    change(new DataView(copy.buffer));
    return reseal(copy);
  };

  it("takes what follows an INDEX's header for no frame, whatever it is and however long", () => {
    const control = { type: FrameType.PING, transfer: 0, flags: 0, body: new Uint8Array(0) } as const;
    const before = process.memoryUsage().arrayBuffers;
    const head = encodeFrame(FrameType.INDEX, 1, 0);
    new DataView(head.buffer).setUint32(8, 0xffffffff, true);
    const rest = new Uint8Array(64 * 1024).fill(0x55);
    const portions = [
      PREAMBLE,
      encodeFrame(FrameType.PING, 0, 0),
      reseal(head),
      ...new Array(1000).fill(rest),
    ];
    const { recorder, parser, error } = parse(portions);
    expect(error).toBeUndefined();
    expect(recorder.events).toEqual([...eventsOf([control]), `admit ${FrameType.INDEX} 1 0`]);
    expect(parser.atBoundary).toBe(true);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  it("refuses a stream that begins in another way", () => {
    for (const stream of ["GET / HTTP/1.1\r\n\r\n", "\x89PNG\r\n\x1a\n", "\0\0\0\0\0\0\0\0"]) {
      expect(parse([Buffer.from(stream, "latin1")]).error?.code).toBe("PROTOCOL");
    }
  });

  it.each<[string, Uint8Array, string]>([
    ["another version", changed(ping, (view) => view.setUint8(0, 2)), "VERSION_UNSUPPORTED"],
    ["an unknown type", changed(ping, (view) => view.setUint8(1, 15)), "PROTOCOL"],
    ["reserved flags", changed(ping, (view) => view.setUint16(2, 4, true)), "PROTOCOL"],
    ["a DATA frame without a count", reseal(encodeFrame(FrameType.DATA, 1, 0)), "PROTOCOL"],
    ["a DATA frame of no records", encodeFrame(FrameType.DATA, 1, 0, new Uint8Array(4)), "PROTOCOL"],
  ])("refuses %s", (_what, bytes, code) => {
    const { error, recorder } = parse([PREAMBLE, bytes]);
    expect(error?.code).toBe(code);
    expect(recorder.verified).toEqual([]);
  });

  it.each<[string, Partial<Parameters<typeof encodeDataHead>[1][number]>]>([
    ["a reserved packing", { packing: 1 }],
    ["a packed length that is not the payload's", { packedBytes: 2 }],
  ])("refuses %s, though every checksum is right", (_what, change) => {
    const record = { ...recordOf(Uint8Array.of(1, 2, 3)), ...change };
    const { error, recorder } = parse([PREAMBLE, encodeDataHead(1, [record]), new Uint8Array(3)]);
    expect(error?.code).toBe("PROTOCOL");
    expect(recorder.verified).toEqual([]);
  });

  it("throws the same error at every later push", () => {
    const { parser, error, recorder } = parse([Buffer.from("not a stream")]);
    const told = recorder.events.length;
    for (const portion of [PREAMBLE, streamOf(SAMPLE), new Uint8Array(0)]) {
      let again: unknown;
      try {
        parser.push(portion);
      } catch (thrown) {
        again = thrown;
      }
      expect(again).toBe(error);
    }
    expect(recorder.events).toHaveLength(told);
  });

  it("throws what the handler throws, then and later, whatever it is", () => {
    for (const thrown of [new TensorwireError("PROTOCOL", "no"), new RangeError("no"), undefined, 0]) {
      const recorder = new Recorder();
      recorder.control = () => {
        throw thrown;
      };
      const parser = new FrameParser(recorder, DEFAULT_LIMITS);
      const push = (): unknown => {
        try {
          parser.push(streamOf(SAMPLE));
        } catch (error) {
          return [error];
        }
        return undefined;
      };
      expect(push()).toEqual([thrown]);
      expect(push()).toEqual([thrown]);
    }
  });
});
