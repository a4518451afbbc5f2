import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeFrame,
  FrameType,
  frameName,
  HEADER_BYTES,
  PROTOCOL_VERSION,
  parseHeader,
  sealHeader,
  verifyFrame,
  xxh64,
} from "../src/index.js";
import { hex, join, reseal } from "./frame-recorder.js";

const types = Object.values(FrameType);
const u32 = fc.integer({ min: 0, max: 0xffffffff });

describe("frame header", () => {
  it("comes back as it was written", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        u32,
        fc.constantFrom(0, 1),
        fc.uint8Array({ maxLength: 300 }),
        (type, transfer, flags, body) => {
          const frame = encodeFrame(type, transfer, flags, body);
          const header = parseHeader(frame);
          expect(header).toMatchObject({ type, transfer, flags, bodyBytes: body.length });
          expect(frame.length).toBe(HEADER_BYTES + body.length);
          expect(hex(frame.subarray(HEADER_BYTES))).toBe(hex(body));
          verifyFrame(frame, header, body);
        },
      ),
    );
  });

  it("stands in the bytes that the wire format says", () => {
    const body = Uint8Array.of(7, 8);
    const frame = encodeFrame(FrameType.CREDIT, 0x04030201, 1, body);
    const head = "01070100" + "01020304" + "02000000";
    expect(hex(frame.subarray(0, 12))).toBe(head);
    const view = new DataView(frame.buffer);
    expect(view.getUint32(12, true)).toBe(Number(xxh64(Buffer.from(head, "hex")) % 2n ** 32n));
    expect(view.getBigUint64(16, true)).toBe(xxh64(join(frame.subarray(0, 16), body)));
    expect(hex(frame.subarray(24))).toBe("0708");
  });

  it("has the same checksum wherever it lies in memory", () => {
    const body = Uint8Array.of(1, 2, 3);
    const frame = encodeFrame(FrameType.PING, 0, 0, body);
    const shifted = join(Uint8Array.of(9, 9, 9), frame).subarray(3);
    verifyFrame(shifted, parseHeader(shifted), body);
  });

  it.each([
    ["another version", 0, PROTOCOL_VERSION + 1, "VERSION_UNSUPPORTED"],
    ["version 0", 0, 0, "VERSION_UNSUPPORTED"],
    ["type 0", 1, 0, "PROTOCOL"],
    ["the first unknown type", 1, 15, "PROTOCOL"],
    ["an unknown type", 1, 200, "PROTOCOL"],
    ["a reserved flag", 2, 2, "PROTOCOL"],
    ["the highest flag", 3, 0x80, "PROTOCOL"],
  ])("refuses %s", (_what, at, value, code) => {
    const frame = encodeFrame(FrameType.HELLO, 1, 0);
    frame[at] = value;
    expect(() => parseHeader(reseal(frame))).toThrow(expect.objectContaining({ code }));
  });

  it("refuses a header that changed on the way, whatever changed", () => {
    const frame = encodeFrame(FrameType.MANIFEST, 7, 0, Uint8Array.of(1, 2, 3));
    for (let bit = 0; bit < 16 * 8; bit++) {
      const flipped = frame.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => parseHeader(flipped), `bit ${bit}`).toThrow(
        expect.objectContaining({ code: "FRAME_CORRUPT" }),
      );
    }
  });

  it("refuses a body that is not the checksum's", () => {
    const frame = encodeFrame(FrameType.END, 1, 0, Uint8Array.of(1, 2, 3));
    const corrupt = expect.objectContaining({
      code: "FRAME_CORRUPT",
      message: expect.stringContaining("END"),
    });
    expect(() => verifyFrame(frame, parseHeader(frame), Uint8Array.of(1, 2, 4))).toThrow(corrupt);
    expect(() => verifyFrame(frame, parseHeader(frame), Uint8Array.of(1, 2))).toThrow(corrupt);
  });

  it("does not write a length that 32 bits cannot hold", () => {
    const header = { type: FrameType.DATA, transfer: 1, flags: 0, bodyBytes: 2 ** 32 };
    expect(() => sealHeader(new Uint8Array(HEADER_BYTES), header, new Uint8Array(0))).toThrow(
      expect.objectContaining({ code: "INTERNAL", message: expect.stringContaining("4294967296 bytes") }),
    );
  });

  it("names every type", () => {
    for (const [name, type] of Object.entries(FrameType)) expect(frameName(type)).toBe(name);
    expect(frameName(15)).toBe("type 15");
  });
});
