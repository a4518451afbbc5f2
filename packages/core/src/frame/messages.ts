import * as v from "valibot";
import type { ChunkRange } from "../chunk-plan.js";
import { TensorwireError } from "../errors.js";
import { isAskable, MAX_ASKED_CHARACTERS, MAX_PATTERN_LENGTH, MAX_PATTERNS } from "../name-patterns.js";
import { type FrameType, frameName } from "./header.js";
import { type Integrity, SHA256_BYTES } from "./held.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** Bodies that are JSON in UTF-8: HELLO, SOURCE, CANCEL and ERROR. Unknown members are ignored, so that later versions can add some. */
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** What a HELLO is. */
export const HelloSchema = v.object({
  /** Protocol versions that this side speaks. */
  versions: v.pipe(v.array(v.pipe(v.number(), v.safeInteger())), v.minLength(1), v.maxLength(64)),
  /** Name and version of the software, for people. */
  software: v.pipe(v.string(), v.maxLength(200)),
  /** What this side came for, where the channel is for one transfer. */
  role: v.picklist(["send", "receive", "any"]),
  /** Codecs that this side can decode. */
  codecs: v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(1024)),
  /** The largest chunk and manifest that this side takes, in bytes. */
  limits: v.object({ maxChunkBytes: Count, maxManifestBytes: Count }),
  /** Patterns of the tensors that this side wants of every model that it is sent: without them, all. */
  tensors: v.optional(
    v.pipe(
      v.array(v.pipe(v.string(), v.maxLength(MAX_PATTERN_LENGTH))),
      v.minLength(1),
      v.maxLength(MAX_PATTERNS),
      v.check(
        (patterns: string[]) => isAskable(patterns),
        `patterns of more than ${MAX_ASKED_CHARACTERS} characters in all`,
      ),
    ),
  ),
  /** What this side shows for who it is, where the channel has no headers to carry it. Never logged. */
  credential: v.optional(v.pipe(v.string(), v.maxLength(8192))),
  /** This side gives the peer up when nothing valid has come for so long: the peer sends a PING at least each third of it. */
  idleTimeoutMs: v.optional(Count),
  /** The version token of what this side has of the model already: a server that still has that version sends it. */
  holds: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(128))),
});
/** What either end says of itself before anything else. */
export type Hello = v.InferOutput<typeof HelloSchema>;

/** What an ERROR is. */
export const FaultSchema = v.object({
  code: v.pipe(v.string(), v.maxLength(64)),
  message: v.pipe(v.string(), v.maxLength(4096)),
  tensor: v.optional(v.pipe(v.string(), v.maxLength(4096))),
  chunk: v.optional(Count),
  retryable: v.optional(v.boolean()),
});
/** Body of CANCEL and ERROR. */
export type Fault = v.InferOutput<typeof FaultSchema>;

/** What a SOURCE is. */
export const SourceStateSchema = v.object({
  /** The version token: the same as long as the source is in the same state. */
  version: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(128))),
});
/** Body of SOURCE: what a sender says of its source besides the manifest, and outside the digest. */
export type SourceState = v.InferOutput<typeof SourceStateSchema>;

/**
 * Body of HELLO, ERROR and SOURCE: JSON in UTF-8.
 * @example
 * const body = encodeJson({ version: "v1" });
 * console.log(parseJson(FrameType.SOURCE, SourceStateSchema, body).version); // v1
 */
export function encodeJson(body: Hello | Fault | SourceState): Uint8Array {
  return encoder.encode(JSON.stringify(body));
}

/**
 * Reads a body of HELLO, ERROR or SOURCE.
 * @throws TensorwireError `PROTOCOL` where the body is not what the schema says.
 */
export function parseJson<const Schema extends v.GenericSchema>(
  type: FrameType,
  schema: Schema,
  body: Uint8Array,
): v.InferOutput<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(utf8.decode(body));
  } catch (cause) {
    throw new TensorwireError("PROTOCOL", `the body of a ${frameName(type)} frame is not JSON`, { cause });
  }
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new TensorwireError(
    "PROTOCOL",
    `the body of a ${frameName(type)} frame: ${v.getDotPath(issue) ?? "body"}: ${issue.message}`,
  );
}

/** WANT: what the receiver lacks, and the window that it grants. */
export interface Want {
  /** Source bytes that may be in flight. */
  readonly windowBytes: number;
  /** Disjoint, ascending runs of chunk ordinals. */
  readonly ranges: readonly ChunkRange[];
  /** The chunks of HELD are of the version that SOURCE named: the sender need not make them again to compare. */
  readonly sameVersion?: boolean | undefined;
  /** The transfer is of these chunks and those of HELD alone: what is in neither is not asked for. */
  readonly part?: boolean | undefined;
}

const WANT_HEAD = 16;
const SAME_VERSION = 1;
const PART = 2;
const RANGE_BYTES = 8;

/**
 * Body of WANT.
 * @example
 * const want = encodeWant({ windowBytes: 131_072, ranges: [{ first: 0, count: 4 }] });
 * console.log(parseWant(want, 10).ranges, maxWantRanges(1024)); // [ { first: 0, count: 4 } ] 126
 */
export function encodeWant(want: Want): Uint8Array {
  const body = new Uint8Array(WANT_HEAD + want.ranges.length * RANGE_BYTES);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, BigInt(want.windowBytes), true);
  view.setUint32(8, want.ranges.length, true);
  view.setUint32(12, (want.sameVersion ? SAME_VERSION : 0) | (want.part ? PART : 0), true);
  want.ranges.forEach(({ first, count }, i) => {
    view.setUint32(WANT_HEAD + i * RANGE_BYTES, first, true);
    view.setUint32(WANT_HEAD + i * RANGE_BYTES + 4, count, true);
  });
  return body;
}

/** Ranges that a WANT may name, so that its body stays within `maxControlBytes`. */
export function maxWantRanges(maxControlBytes: number): number {
  return Math.floor((maxControlBytes - WANT_HEAD) / RANGE_BYTES);
}

/** Reads a body of WANT. @param chunks Chunks in the plan: no range may reach past it. */
export function parseWant(body: Uint8Array, chunks: number): Want {
  const view = viewOf("WANT", body, WANT_HEAD, body.length);
  const count = view.getUint32(8, true);
  const flags = view.getUint32(12, true);
  if (flags & ~(SAME_VERSION | PART))
    throw new TensorwireError("PROTOCOL", "WANT: reserved flags are not zero");
  if (body.length !== WANT_HEAD + count * RANGE_BYTES) {
    throw new TensorwireError("PROTOCOL", `WANT: ${count} ranges in ${body.length} bytes`);
  }
  const ranges: ChunkRange[] = [];
  let next = 0;
  for (let i = 0; i < count; i++) {
    const first = view.getUint32(WANT_HEAD + i * RANGE_BYTES, true);
    const length = view.getUint32(WANT_HEAD + i * RANGE_BYTES + 4, true);
    if (first < next || length === 0 || first + length > chunks) {
      throw new TensorwireError("PROTOCOL", `WANT: range ${first}+${length} of a plan of ${chunks} chunks`);
    }
    ranges.push({ first, count: length });
    next = first + length;
  }
  const windowBytes = safe("WANT", view.getBigUint64(0, true));
  return { windowBytes, ranges, sameVersion: (flags & SAME_VERSION) !== 0, part: (flags & PART) !== 0 };
}

/** CREDIT: both are totals since the transfer began on this connection, never increments. */
export interface Credit {
  /** Source bytes that the sender may have sent. */
  readonly limit: number;
  /** Source bytes that the sink has finished with. */
  readonly finished: number;
}

const CREDIT_BYTES = 16;

/**
 * Body of CREDIT.
 * @example
 * console.log(parseCredit(encodeCredit({ limit: 65_536, finished: 4096 })).limit); // 65536
 */
export function encodeCredit({ limit, finished }: Credit): Uint8Array {
  const body = new Uint8Array(CREDIT_BYTES);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, BigInt(limit), true);
  view.setBigUint64(8, BigInt(finished), true);
  return body;
}

/** Reads a body of CREDIT. @throws TensorwireError `PROTOCOL`. */
export function parseCredit(body: Uint8Array): Credit {
  const view = viewOf("CREDIT", body, CREDIT_BYTES, CREDIT_BYTES);
  return {
    limit: safe("CREDIT", view.getBigUint64(0, true)),
    finished: safe("CREDIT", view.getBigUint64(8, true)),
  };
}

/** ACK: source bytes that came on this connection and are durable at the receiver: no interruption takes them back. */
export interface Acknowledgement {
  /** How many of them. */
  readonly durable: number;
}

const ACK_BYTES = 8;

/**
 * Body of ACK.
 * @example
 * console.log(parseAck(encodeAck({ durable: 7 })).durable); // 7
 */
export function encodeAck({ durable }: Acknowledgement): Uint8Array {
  const body = new Uint8Array(ACK_BYTES);
  new DataView(body.buffer).setBigUint64(0, BigInt(durable), true);
  return body;
}

/** Reads a body of ACK. @throws TensorwireError `PROTOCOL`. */
export function parseAck(body: Uint8Array): Acknowledgement {
  return { durable: safe("ACK", viewOf("ACK", body, ACK_BYTES, ACK_BYTES).getBigUint64(0, true)) };
}

/** Body of END and of RECEIPT: what was sent, and what is verified and durable. */
export interface Totals {
  /** Of the whole transfer, see `TransferDigest`. */
  readonly digest: bigint;
  /** Chunks sent, or received, on this connection. */
  readonly chunks: number;
  /** Source bytes of those chunks. */
  readonly sourceBytes: number;
  /** Finite elements that the encoder clamped. */
  readonly clamped: number;
  /** With integrity `sha256`: the digest by that. */
  readonly sha256?: Uint8Array | undefined;
}

const TOTALS_BYTES = 32;

/** Bytes of the body of END, and of RECEIPT. */
export function totalsBytes(integrity: Integrity): number {
  return TOTALS_BYTES + (integrity === "sha256" ? SHA256_BYTES : 0);
}

/**
 * Body of END and RECEIPT.
 * @example
 * const totals = encodeTotals({ digest: 5n, chunks: 1, sourceBytes: 12, clamped: 0 });
 * console.log(totals.length === totalsBytes("xxh64"), parseTotals("END", totals).digest); // true 5n
 */
export function encodeTotals({ digest, chunks, sourceBytes, clamped, sha256 }: Totals): Uint8Array {
  const body = new Uint8Array(TOTALS_BYTES + (sha256 ? SHA256_BYTES : 0));
  const view = new DataView(body.buffer);
  view.setBigUint64(0, digest, true);
  view.setBigUint64(8, BigInt(chunks), true);
  view.setBigUint64(16, BigInt(sourceBytes), true);
  view.setBigUint64(24, BigInt(clamped), true);
  if (sha256) body.set(sha256, TOTALS_BYTES);
  return body;
}

/** Reads a body of END or RECEIPT. @throws TensorwireError `PROTOCOL`. */
export function parseTotals(
  type: "END" | "RECEIPT",
  body: Uint8Array,
  integrity: Integrity = "xxh64",
): Totals {
  const bytes = totalsBytes(integrity);
  const view = viewOf(type, body, bytes, bytes);
  return {
    // The body is lent.
    ...(integrity === "sha256" && { sha256: body.slice(TOTALS_BYTES) }),
    digest: view.getBigUint64(0, true),
    chunks: safe(type, view.getBigUint64(8, true)),
    sourceBytes: safe(type, view.getBigUint64(16, true)),
    clamped: safe(type, view.getBigUint64(24, true)),
  };
}

function viewOf(what: string, body: Uint8Array, min: number, exact: number): DataView {
  if (body.length < min || body.length !== exact) {
    throw new TensorwireError("PROTOCOL", `${what}: a body of ${body.length} bytes`);
  }
  return new DataView(body.buffer, body.byteOffset, body.length);
}

function safe(what: string, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new TensorwireError("PROTOCOL", `${what}: a count of ${value}`);
  return Number(value);
}
