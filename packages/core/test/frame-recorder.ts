import {
  BufferPool,
  type ChunkRecord,
  DEFAULT_LIMITS,
  encodeDataHead,
  encodeFrame,
  type FrameHandler,
  type FrameHeader,
  FrameParser,
  FrameType,
  HEADER_BYTES,
  type Limits,
  type Loan,
  PREAMBLE,
  TensorwireError,
  xxh64,
} from "../src/index.js";

/** A frame to write: a control frame has a body, a DATA frame has payloads. */
export type Frame =
  | {
      readonly type: FrameType;
      readonly transfer: number;
      readonly flags: number;
      readonly body: Uint8Array;
    }
  | { readonly transfer: number; readonly payloads: readonly Uint8Array[] };

/** A frame of every kind, with payloads that are empty, short and long. */
export const SAMPLE: readonly Frame[] = [
  { type: FrameType.HELLO, transfer: 0, flags: 0, body: Uint8Array.from({ length: 90 }, (_, i) => i) },
  { type: FrameType.MANIFEST, transfer: 1, flags: 0, body: new Uint8Array(200).fill(5) },
  { type: FrameType.PING, transfer: 0, flags: 0, body: new Uint8Array(0) },
  { transfer: 1, payloads: [Uint8Array.of(1, 2, 3), new Uint8Array(0), new Uint8Array(150).fill(7)] },
  { transfer: 2, payloads: [new Uint8Array(0)] },
  { type: FrameType.CREDIT, transfer: 1, flags: 1, body: new Uint8Array(16).fill(1) },
];

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A record of `payload`; what does not follow from the payload is made up from `index`. */
export function recordOf(payload: Uint8Array, index = 0): ChunkRecord {
  return {
    tensor: index,
    firstElement: index * 4096,
    elements: payload.length * 2,
    codec: 5,
    packing: 0,
    payloadBytes: payload.length,
    packedBytes: payload.length,
    hash: xxh64(payload),
  };
}

export function encodeData(transfer: number, payloads: readonly Uint8Array[]): Uint8Array {
  return join(encodeDataHead(transfer, payloads.map(recordOf)), ...payloads);
}

export function encode(frame: Frame): Uint8Array {
  if ("payloads" in frame) return encodeData(frame.transfer, frame.payloads);
  return encodeFrame(frame.type, frame.transfer, frame.flags, frame.body);
}

/** The bytes of a whole stream of frames. */
export function streamOf(frames: readonly Frame[]): Uint8Array {
  return join(PREAMBLE, ...frames.map(encode));
}

/** A changed frame with checks that are right again, as a hostile peer would send it. `covered` is all but payloads. */
export function reseal(frame: Uint8Array, covered = frame.subarray(HEADER_BYTES)): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset);
  view.setUint32(12, Number(xxh64(frame.subarray(0, 12)) & 0xffffffffn), true);
  view.setBigUint64(16, xxh64(frame.subarray(0, 16), covered), true);
  return frame;
}

/** What a parser should tell of `frames`, as `Recorder` writes it down. */
export function eventsOf(frames: readonly Frame[]): string[] {
  return frames.flatMap((frame) => {
    if ("payloads" in frame) {
      const records = frame.payloads.map((payload, i) => [payload, recordOf(payload, i)] as const);
      return [
        `admit ${FrameType.DATA} ${frame.transfer} 0`,
        ...records.flatMap(([payload, record]) => [
          `lend ${line(record)}`,
          `payload ${line(record)} ${hex(payload)}`,
        ]),
      ];
    }
    const head = `${frame.type} ${frame.transfer} ${frame.flags}`;
    return [`admit ${head}`, `control ${head} ${hex(frame.body)}`];
  });
}

const line = (record: ChunkRecord): string =>
  Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(" ");

/** Writes down everything that a parser tells. Loans come from a pool, and go back when their payload is complete. */
export class Recorder implements FrameHandler {
  readonly events: string[] = [];
  readonly pool = new BufferPool(64 * 1024);

  /** What reached the owner as verified: everything but headers, which are offered for refusal only. */
  get verified(): string[] {
    return this.events.filter((event) => !event.startsWith("admit"));
  }

  admit({ type, transfer, flags }: FrameHeader): void {
    this.events.push(`admit ${type} ${transfer} ${flags}`);
  }

  control({ type, transfer, flags }: FrameHeader, body: Uint8Array): void {
    this.events.push(`control ${type} ${transfer} ${flags} ${hex(body)}`);
  }

  lend(_header: FrameHeader, record: ChunkRecord): Loan | undefined {
    this.events.push(`lend ${line(record)}`);
    return this.pool.lend(record.packedBytes);
  }

  payload(_header: FrameHeader, record: ChunkRecord, loan: Loan): void {
    this.events.push(`payload ${line(record)} ${hex(loan.bytes)}`);
    loan.release();
  }
}

/** A parser, the recorder behind it, and the error that a push ended in. */
export function parse(
  portions: Iterable<Uint8Array>,
  recorder = new Recorder(),
  limits: Partial<Limits> = {},
): { recorder: Recorder; parser: FrameParser; error: TensorwireError | undefined } {
  const parser = new FrameParser(recorder, { ...DEFAULT_LIMITS, ...limits });
  let error: TensorwireError | undefined;
  try {
    for (const portion of portions) parser.push(portion);
  } catch (thrown) {
    if (!(thrown instanceof TensorwireError)) throw thrown;
    error = thrown;
  }
  return { recorder, parser, error };
}
