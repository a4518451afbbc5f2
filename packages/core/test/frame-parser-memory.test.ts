import { describe, expect, it } from "vitest";
import {
  COUNT_BYTES,
  DEFAULT_LIMITS,
  encodeFrame,
  FrameParser,
  FrameType,
  HEADER_BYTES,
  PREAMBLE,
  RECORD_BYTES,
  TensorwireError,
  unpooled,
} from "../src/index.js";
import {
  encodeData,
  eventsOf,
  type Frame,
  join,
  parse,
  Recorder,
  reseal,
  SAMPLE,
  streamOf,
} from "./frame-recorder.js";

describe("FrameParser and memory", () => {
  const MiB = 1024 * 1024;

  /** The header of a frame whose body is said to be `bodyBytes` long, with checks that are right. */
  function announce(type: FrameType, bodyBytes: number): Uint8Array {
    const header = encodeFrame(type, 1, 0);
    new DataView(header.buffer).setUint32(8, bodyBytes, true);
    return reseal(header, new Uint8Array(0));
  }

  const buffers = (): number => process.memoryUsage().arrayBuffers;

  it.each([
    ["a MANIFEST", FrameType.MANIFEST, 200 * MiB],
    ["a control frame", FrameType.WANT, MiB],
    ["a DATA frame", FrameType.DATA, 1000 * MiB],
  ])("takes none for %s that is only announced", (_what, type, bodyBytes) => {
    const before = buffers();
    const parsers = Array.from({ length: 20 }, () =>
      parse([PREAMBLE, announce(type, bodyBytes), new Uint8Array(1024).fill(1)]),
    );
    // 20 KiB of bodies have come; the shortest of the announced lengths, twenty times, is 20 MiB.
    expect(buffers() - before).toBeLessThan(4 * MiB);
    expect(parsers).toHaveLength(20);
  });

  it("takes it as the bytes come", () => {
    const before = buffers();
    const { parser } = parse([PREAMBLE, announce(FrameType.MANIFEST, 200 * MiB)]);
    const portion = new Uint8Array(64 * 1024);
    for (let sent = 0; sent < 8 * MiB; sent += portion.length) parser.push(portion);
    // Doubling holds at most twice what came, and three times while it copies.
    expect(buffers() - before).toBeLessThan(26 * MiB);
    expect(parser.position).toBe("within a MANIFEST frame");
  });

  it.each([
    ["maxManifestBytes", FrameType.MANIFEST],
    ["maxControlBytes", FrameType.HELLO],
    ["maxControlBytes", FrameType.ERROR],
    ["maxFrameBytes", FrameType.DATA],
  ] as const)("refuses a length over %s (type %i) before anything else is done", (limit, type) => {
    const limits = { maxManifestBytes: 1000, maxControlBytes: 1000, maxFrameBytes: 1000 };
    const within = parse([PREAMBLE, announce(type, 1000)], new Recorder(), limits);
    expect(within.error).toBeUndefined();
    expect(within.recorder.events).toEqual([`admit ${type} 1 0`]);
    for (const bodyBytes of [1001, 2 ** 31, 2 ** 32 - 1]) {
      const { error, recorder } = parse([PREAMBLE, announce(type, bodyBytes)], new Recorder(), limits);
      expect(error?.code).toBe("LIMIT_EXCEEDED");
      expect(error?.message).toContain(limit);
      expect(recorder.events).toEqual([]);
    }
  });

  it("refuses a count of records when it has come, without awaiting their table", () => {
    const head = announce(FrameType.DATA, 1000 * MiB);
    const count = new Uint8Array(COUNT_BYTES);
    new DataView(count.buffer).setUint32(0, DEFAULT_LIMITS.maxRecords + 1, true);
    const { error } = parse([PREAMBLE, head, count]);
    expect(error?.code).toBe("LIMIT_EXCEEDED");
    expect(error?.message).toContain("maxRecords");
  });

  it("offers a header for refusal before it awaits the body", () => {
    const recorder = new Recorder();
    const refusal = new TensorwireError("PROTOCOL", "out of its order");
    recorder.admit = () => {
      throw refusal;
    };
    for (const type of Object.values(FrameType)) {
      const { error } = parse([PREAMBLE, announce(type, 500)], recorder);
      expect(error).toBe(refusal);
    }
    expect(recorder.events).toEqual([]);
  });

  it("asks for a payload's memory only when the whole table is verified", () => {
    const payload = new Uint8Array(500);
    const bytes = encodeData(1, [payload, payload]);
    const table = HEADER_BYTES + COUNT_BYTES + 2 * RECORD_BYTES;
    expect(parse([PREAMBLE, bytes.subarray(0, table - 1)]).recorder.verified).toEqual([]);
    const complete = parse([PREAMBLE, bytes.subarray(0, table)]).recorder;
    // The first payload's; the second one's when the first is complete.
    expect(complete.verified).toHaveLength(1);
  });

  it("gives back the loan of a payload when parsing fails in the middle of it, or is closed", () => {
    const bytes = encodeData(1, [new Uint8Array(300), new Uint8Array(300)]);
    for (const sent of [bytes.length - 1, bytes.length - 300, bytes.length - 301, bytes.length - 599]) {
      const { recorder, parser } = parse([PREAMBLE, bytes.subarray(0, sent)]);
      expect(recorder.pool.loans).toBe(1);
      parser.close();
      parser.close();
      expect(recorder.pool.loans).toBe(0);
    }
    const recorder = new Recorder();
    const { lend } = recorder;
    let lent = 0;
    recorder.lend = (header, record) => {
      if (++lent === 2) throw new TensorwireError("PROTOCOL", "no more");
      return lend.call(recorder, header, record);
    };
    expect(parse([PREAMBLE, bytes], recorder).error?.message).toBe("no more");
    expect(recorder.pool.loans).toBe(0);
  });

  it("gives back a loan that is shorter than its payload, and says that it failed", () => {
    let released = 0;
    const recorder = new Recorder();
    recorder.lend = () => ({ ...unpooled(new Uint8Array(10)), release: () => released++ });
    const parser = new FrameParser(recorder, DEFAULT_LIMITS);
    expect(() => parser.push(join(PREAMBLE, encodeData(1, [new Uint8Array(11)])))).toThrow(RangeError);
    expect(released).toBe(1);
  });

  it("leaves a loan with the handler once its payload is complete", () => {
    const recorder = new Recorder();
    recorder.payload = () => {
      throw new TensorwireError("PROTOCOL", "kept");
    };
    expect(parse([PREAMBLE, encodeData(1, [new Uint8Array(9)])], recorder).error?.message).toBe("kept");
    expect(recorder.pool.loans).toBe(1);
  });

  it("reads past a payload that nobody wants, in no memory, and goes on behind it", () => {
    const unwanted = new Uint8Array(300).fill(1);
    const wanted = Uint8Array.of(7, 8, 9);
    const bytes = streamOf([{ transfer: 1, payloads: [unwanted, wanted, new Uint8Array(0)] }, ...SAMPLE]);
    const expected = eventsOf([{ transfer: 1, payloads: [unwanted, wanted, new Uint8Array(0)] }, ...SAMPLE]);
    for (const size of [1, 100, bytes.length]) {
      const recorder = new Recorder();
      const { lend } = recorder;
      recorder.lend = (header, record) => {
        if (record.payloadBytes !== unwanted.length) return lend.call(recorder, header, record);
        return undefined;
      };
      const portions = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      const { error } = parse(portions, recorder);
      expect(error).toBeUndefined();
      expect(recorder.events).toEqual(expected.filter((event) => !event.includes(`payloadBytes=300`)));
    }
  });

  it("reads past the rest of a payload that is given up, and releases its loan once", () => {
    const bytes = encodeData(1, [new Uint8Array(300), Uint8Array.of(1)]);
    for (const left of [301, 200, 2]) {
      const { recorder, parser } = parse([PREAMBLE, bytes.subarray(0, bytes.length - left)]);
      expect(recorder.pool.loans).toBe(1);
      parser.skip();
      parser.skip();
      expect(recorder.pool.loans).toBe(0);
      parser.push(bytes.subarray(bytes.length - left));
      expect(parser.atBoundary).toBe(true);
      expect(recorder.verified.map((event) => event.split(" ")[0])).toEqual(["lend", "lend", "payload"]);
      expect(recorder.pool.loans).toBe(0);
    }
  });

  it("lends nothing for what follows in a portion, once the handler has closed it", () => {
    for (const at of [FrameType.CREDIT, FrameType.DATA]) {
      const recorder = new Recorder();
      const parser = new FrameParser(recorder, DEFAULT_LIMITS);
      const { control, payload } = recorder;
      recorder.control = (header, body) => {
        control.call(recorder, header, body);
        if (header.type === at) parser.close();
      };
      recorder.payload = (header, record, loan) => {
        payload.call(recorder, header, record, loan);
        if (header.type === at) parser.close();
      };
      const first: Frame = { type: FrameType.CREDIT, transfer: 1, flags: 1, body: new Uint8Array(16) };
      const data: Frame = {
        transfer: 1,
        payloads: [Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)],
      };
      const bytes = streamOf([first, data, first]);
      parser.push(bytes);
      expect(recorder.events).toEqual(eventsOf([first, data]).slice(0, at === FrameType.DATA ? 5 : 2));
      parser.push(bytes);
      expect(recorder.pool.loans).toBe(0);
    }
  });
});
