import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type ChunkRecord,
  COUNT_BYTES,
  DEFAULT_LIMITS,
  dataTableBytes,
  encodeDataHead,
  FrameType,
  HEADER_BYTES,
  Packing,
  parseDataTable,
  parseHeader,
  RECORD_BYTES,
  verifyFrame,
} from "../src/index.js";
import { hex, recordOf } from "./frame-recorder.js";

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });

/** Any record; lengths small enough for several in a frame. */
const record: fc.Arbitrary<ChunkRecord> = fc
  .record({
    tensor: u32,
    firstElement: fc.maxSafeNat(),
    elements: u32,
    codec: u16,
    packing: fc.constantFrom(Packing.RAW, Packing.ZSTD),
    payloadBytes: fc.integer({ min: 2, max: 2 ** 24 }),
    saved: fc.integer({ min: 1, max: 2 ** 24 }),
    hash: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  })
  .map(({ saved, ...made }) => {
    const { packing, payloadBytes } = made;
    const packedBytes = packing === Packing.RAW ? payloadBytes : 1 + (saved % (payloadBytes - 1));
    return { ...made, packedBytes };
  });

const table = (head: Uint8Array): Uint8Array => head.subarray(HEADER_BYTES);

describe("DATA frame", () => {
  it("gives the records that were written, under one checksum", () => {
    fc.assert(
      fc.property(u32, fc.array(record, { minLength: 1, maxLength: 20 }), (transfer, records) => {
        const head = encodeDataHead(transfer, records);
        const header = parseHeader(head);
        const payloads = records.reduce((sum, { packedBytes }) => sum + packedBytes, 0);
        const bodyBytes = COUNT_BYTES + records.length * RECORD_BYTES + payloads;
        expect(header).toMatchObject({ type: FrameType.DATA, transfer, flags: 0, bodyBytes });
        verifyFrame(head, header, table(head));
        expect(dataTableBytes(records.length, bodyBytes, DEFAULT_LIMITS)).toBe(table(head).length);
        expect(parseDataTable(table(head), bodyBytes)).toEqual(records);
      }),
    );
  });

  it("stands in the bytes that the wire format says", () => {
    const head = encodeDataHead(1, [
      {
        tensor: 0x04030201,
        firstElement: 0x0123456789abc,
        elements: 5,
        codec: 0x0605,
        packing: 0,
        payloadBytes: 7,
        packedBytes: 7,
        hash: 0x1122334455667788n,
      },
    ]);
    expect(hex(table(head))).toBe(
      `${[
        "01000000",
        "01020304",
        "0506",
        "0000",
        "bc9a785634120000",
        "05000000",
        "07000000",
        "07000000",
      ].join("")}8877665544332211`,
    );
  });

  it("refuses more records than the limit before their table is awaited", () => {
    const limits = { ...DEFAULT_LIMITS, maxRecords: 4 };
    expect(dataTableBytes(4, 1 << 20, limits)).toBe(COUNT_BYTES + 4 * RECORD_BYTES);
    for (const count of [5, 0xffffffff]) {
      expect(() => dataTableBytes(count, 0xffffffff, limits)).toThrow(
        expect.objectContaining({ code: "LIMIT_EXCEEDED", message: expect.stringContaining("maxRecords") }),
      );
    }
  });

  it.each([
    ["no records", 0, 1000],
    ["a table that its body cannot hold", 3, COUNT_BYTES + 3 * RECORD_BYTES - 1],
  ])("refuses %s", (_what, count, bodyBytes) => {
    expect(() => dataTableBytes(count, bodyBytes, DEFAULT_LIMITS)).toThrow(
      expect.objectContaining({ code: "PROTOCOL" }),
    );
  });

  it.each<[string, Partial<ChunkRecord>, number]>([
    ["a reserved packing", { packing: 2 }, 0],
    ["a packed length that is not the payload's, without packing", { packedBytes: 2 }, 0],
    ["a packing that makes nothing smaller", { packing: 1 }, 0],
    ["a packing that makes it larger", { packing: 1, packedBytes: 4 }, 0],
    ["a packing to nothing", { packing: 1, packedBytes: 0 }, 0],
    ["a packing of nothing", { packing: 1, payloadBytes: 0, packedBytes: 0 }, 0],
    ["a body with bytes that no record owns", {}, 1],
    ["a body that is too short for its payloads", {}, -1],
  ])("refuses %s", (_what, change, more) => {
    const made = { ...recordOf(Uint8Array.of(1, 2, 3)), ...change };
    const head = encodeDataHead(1, [made]);
    const bodyBytes = table(head).length + made.packedBytes + more;
    expect(() => parseDataTable(table(head), bodyBytes)).toThrow(
      expect.objectContaining({ code: "PROTOCOL" }),
    );
  });

  it("refuses lengths whose sum is far over any body", () => {
    const made = { ...recordOf(new Uint8Array(0)), payloadBytes: 0xffffffff, packedBytes: 0xffffffff };
    const head = encodeDataHead(1, [recordOf(new Uint8Array(0))]);
    const view = new DataView(head.buffer, HEADER_BYTES + COUNT_BYTES);
    view.setUint32(20, made.payloadBytes, true);
    view.setUint32(24, made.packedBytes, true);
    // The sum modulo 2^32 would be the body's length.
    const wrapped = table(head).length - 1;
    expect(() => parseDataTable(table(head), wrapped)).toThrow(expect.objectContaining({ code: "PROTOCOL" }));
  });

  it("keeps a first element past 2^53 from being taken for another one", () => {
    const head = encodeDataHead(1, [recordOf(new Uint8Array(0))]);
    new DataView(head.buffer, HEADER_BYTES + COUNT_BYTES).setBigUint64(8, 2n ** 64n - 1n, true);
    const [parsed] = parseDataTable(table(head), table(head).length);
    expect(Number.isSafeInteger(parsed?.firstElement)).toBe(false);
  });
});
