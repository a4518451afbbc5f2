import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  COUNT_BYTES,
  DEFAULT_LIMITS,
  encodeDataHead,
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
  recordOf,
  reseal,
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

/** A frame of every kind, with payloads that are empty, short and long. */
const SAMPLE: readonly Frame[] = [
  { type: FrameType.HELLO, transfer: 0, flags: 0, body: Uint8Array.from({ length: 90 }, (_, i) => i) },
  { type: FrameType.MANIFEST, transfer: 1, flags: 0, body: new Uint8Array(200).fill(5) },
  { type: FrameType.PING, transfer: 0, flags: 0, body: new Uint8Array(0) },
  { transfer: 1, payloads: [Uint8Array.of(1, 2, 3), new Uint8Array(0), new Uint8Array(150).fill(7)] },
  { transfer: 2, payloads: [new Uint8Array(0)] },
  { type: FrameType.CREDIT, transfer: 1, flags: 1, body: new Uint8Array(16).fill(1) },
];

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
