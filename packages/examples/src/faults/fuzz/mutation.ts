import {
  COUNT_BYTES,
  encodeAck,
  encodeCredit,
  encodeHeld,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  RECORD_BYTES,
  xxh64,
} from "@tensorwire/core";
import type { Draws } from "../draws.js";
import { type Frame, newFrame, tableBytes } from "./frame.js";
import { mutateJson } from "./json-mutation.js";

/** Numbers at which something changes: signs, widths, counts. */
const EDGES = [
  0,
  1,
  2,
  3,
  7,
  8,
  16,
  35,
  36,
  255,
  256,
  4096,
  32768,
  65535,
  65536,
  2 ** 20,
  2 ** 31,
  2 ** 32 - 1,
];
const JSON_TYPES: ReadonlySet<number> = new Set([
  FrameType.HELLO,
  FrameType.MANIFEST,
  FrameType.CANCEL,
  FrameType.ERROR,
  FrameType.SOURCE,
]);
const TYPES = Object.values(FrameType);

type Mutation = (frames: Frame[], draws: Draws) => void;

/** A script with one to three things changed. What is resealed reaches the depths of whoever parses it. */
export function mutate(script: readonly Frame[], draws: Draws, others: readonly Frame[]): Frame[] {
  const frames = script.map((frame) => ({ ...frame }));
  for (let times = draws.pick([1, 1, 1, 2, 3]); times > 0 && frames.length; times--) {
    draws.pick(MUTATIONS)(frames, draws);
    if (draws.oneIn(12)) frames.splice(draws.below(frames.length + 1), 0, { ...draws.pick(others) });
  }
  return frames;
}

/** Which bodies are changed most: those that are believed most. */
function pickFrame(frames: Frame[], draws: Draws): Frame {
  const wanted = draws.pick([FrameType.MANIFEST, FrameType.DATA, FrameType.WANT, undefined]);
  const some = frames.filter(({ type }) => type === wanted);
  return draws.pick(some.length ? some : frames);
}

const order: Mutation = (frames, draws) => {
  const at = draws.below(frames.length);
  const other = draws.below(frames.length);
  switch (draws.below(6)) {
    case 0:
      frames.splice(at, 1);
      return;
    case 1:
      frames.splice(other, 0, { ...frames[at]! });
      return;
    case 2:
      [frames[at], frames[other]] = [frames[other]!, frames[at]!];
      return;
    case 3:
      frames.splice(at);
      return;
    case 4: {
      const copies = Array.from({ length: draws.pick([2, 20, 300]) }, () => ({ ...frames[at]! }));
      frames.splice(at, 0, ...copies);
      return;
    }
    default:
      // Nobody waits for anybody.
      for (const frame of frames) frame.after = 0;
  }
};

const header: Mutation = (frames, draws) => {
  const frame = pickFrame(frames, draws);
  const { length } = frame.body;
  switch (draws.below(7)) {
    case 0:
      frame.type = draws.oneIn(3) ? draws.below(256) : draws.pick(TYPES);
      return;
    case 1:
      frame.flags = draws.oneIn(2) ? frame.flags ^ FLAG_TO_SENDER : draws.below(65536);
      return;
    case 2:
      frame.transfer = draws.pick([0, 1, 2, 3, frame.transfer + 1, 2 ** 32 - 1]);
      return;
    case 3:
      frame.version = draws.below(256);
      return;
    case 4:
      frame.claimedBytes = draws.pick([length + 1, Math.max(0, length - 1), 0, ...EDGES]);
      return;
    case 5:
      frame.checkMask = 1 << draws.below(31);
      return;
    default:
      frame.checksumMask = 1n << BigInt(draws.below(64));
  }
};

const body: Mutation = (frames, draws) => {
  const frame = pickFrame(frames, draws);
  if (JSON_TYPES.has(frame.type)) {
    const text = new TextDecoder().decode(frame.body);
    frame.body = new TextEncoder().encode(mutateJson(text, draws));
  } else if (frame.type === FrameType.DATA) mutateData(frame, draws);
  else frame.body = mutateFields(frame.body, draws);
};

/** Bytes at random places, or more or fewer of them. */
const bytes: Mutation = (frames, draws) => {
  const frame = pickFrame(frames, draws);
  const changed = frame.body.slice();
  for (let times = draws.pick([1, 1, 4, 40]); times > 0 && changed.length; times--) {
    changed[draws.below(changed.length)] = draws.below(256);
  }
  const { length } = changed;
  frame.body = draws.oneIn(3)
    ? changed.subarray(0, draws.below(length + 1))
    : draws.oneIn(3)
      ? Buffer.concat([changed, draws.bytes(draws.between(1, 40))])
      : changed;
};

/** A frame that nobody sent, in form as it should be. */
const invention: Mutation = (frames, draws) => {
  const near = draws.pick(frames);
  const type = draws.pick(TYPES);
  const fault = JSON.stringify({ code: draws.pick(["ABORTED", "TARGET_FULL", "x"]), message: "no" });
  const text = (value: string): Uint8Array => new TextEncoder().encode(value);
  const bodies: Partial<Record<number, Uint8Array>> = {
    [FrameType.PING]: new Uint8Array(0),
    [FrameType.ERROR]: text(fault),
    [FrameType.CANCEL]: text(fault),
    [FrameType.SOURCE]: text(JSON.stringify({ version: draws.pick(["a", "b", ""]) })),
    [FrameType.END]: encodeTotals({ digest: 1n, chunks: draws.below(9), sourceBytes: 0, clamped: 0 }),
    [FrameType.HELD]: encodeHeld(
      { first: draws.below(3), chunks: [{ codec: draws.below(8), hash: BigInt(draws.below(99)) }] },
      "xxh64",
    ),
    [FrameType.WANT]: encodeWant({
      windowBytes: draws.pick([0, 2 ** 16, 2 ** 19, 2 ** 40]),
      ranges: [{ first: draws.below(2), count: draws.between(1, 3) }],
      sameVersion: draws.oneIn(2),
    }),
    [FrameType.CREDIT]: encodeCredit({ limit: draws.below(2 ** 20), finished: draws.below(2 ** 16) }),
    [FrameType.ACK]: encodeAck({ durable: draws.below(2 ** 16) }),
  };
  const made = newFrame(type, bodies[type] ?? draws.bytes(draws.pick([0, 8, 16, 24, 60])), near.after);
  const toSender = near.flags & FLAG_TO_SENDER;
  made.flags = draws.oneIn(5) ? toSender ^ FLAG_TO_SENDER : toSender;
  if (draws.oneIn(3)) made.transfer = draws.below(3);
  frames.splice(draws.below(frames.length + 1), 0, made);
};

const MUTATIONS: readonly Mutation[] = [order, header, body, body, body, body, bytes, invention];

/** Integers in the places where integers are: 16, 32 or 64 bits. */
function mutateFields(from: Uint8Array, draws: Draws): Uint8Array {
  const changed = from.slice();
  const width = draws.pick([2, 4, 4, 8, 8]);
  if (changed.length < width) return draws.bytes(width);
  setField(changed, draws.below(Math.floor(changed.length / width)) * width, width, draws);
  return changed;
}

function setField(within: Uint8Array, at: number, width: number, draws: Draws): void {
  const view = new DataView(within.buffer, within.byteOffset, within.length);
  const low = width === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
  const value = draws.pick([low + 1, Math.max(0, low - 1), low * 2, draws.pick(EDGES), draws.below(2 ** 31)]);
  if (width === 2) view.setUint16(at, value & 0xffff, true);
  else if (width === 4) view.setUint32(at, value >>> 0, true);
  else view.setBigUint64(at, BigInt(value) << BigInt(draws.pick([0, 0, 0, 21, 32])), true);
}

/** Offsets and widths of a record's fields. */
const RECORD_FIELDS = [
  [0, 4],
  [4, 2],
  [6, 2],
  [8, 8],
  [16, 4],
  [20, 4],
  [24, 4],
  [28, 8],
] as const;
const PAYLOAD_BYTES_AT = 20;
const PACKED_BYTES_AT = 24;
const HASH_AT = 28;

function mutateData(frame: Frame, draws: Draws): void {
  const changed = frame.body.slice();
  frame.body = changed;
  const table = tableBytes(changed);
  const records = Math.floor((table - COUNT_BYTES) / RECORD_BYTES);
  if (records < 1) return void (frame.body = mutateFields(changed, draws));
  const at = COUNT_BYTES + draws.below(records) * RECORD_BYTES;
  switch (draws.below(4)) {
    case 0: {
      const [offset, width] = draws.pick(RECORD_FIELDS);
      return setField(changed, at + offset, width, draws);
    }
    case 1:
      return setField(changed, 0, 4, draws);
    default:
      mutatePayload(changed, table, records, draws);
  }
}

/** Another payload, under a hash that is right: the decoder gets to see it. */
function mutatePayload(body: Uint8Array, table: number, records: number, draws: Draws): void {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const which = draws.below(records);
  let from = table;
  for (let i = 0; i < which; i++) {
    from += view.getUint32(COUNT_BYTES + i * RECORD_BYTES + PACKED_BYTES_AT, true);
  }
  const record = COUNT_BYTES + which * RECORD_BYTES;
  const packed = view.getUint32(record + PACKED_BYTES_AT, true);
  const payload = body.subarray(from, from + packed);
  if (!payload.length) return;
  for (let times = draws.pick([1, 4, 64]); times > 0; times--) {
    // Most of what decoders believe is at the beginning: scales, tables, lengths.
    const place = draws.oneIn(2) ? draws.below(Math.min(64, payload.length)) : draws.below(payload.length);
    payload[place] = draws.pick([0, 255, 127, 128, draws.below(256)]);
  }
  const raw = packed === view.getUint32(record + PAYLOAD_BYTES_AT, true);
  if (raw) view.setBigUint64(record + HASH_AT, xxh64(payload), true);
}
