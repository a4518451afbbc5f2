import { expect } from "vitest";
import { type ChunkPosition, type Codec, type CodecSpec, type Encoded, UNNAMED } from "../codec/codec.js";
import { byteLength, type DType } from "../dtype.js";
import { segmentsOf } from "../packing/envelope.js";
import { expectSame, expectTrue, expectUntouched, UNTOUCHED } from "./expectations.js";

/** What encoding gave: the payload has no bytes where the codec declined. */
export interface Made {
  /** Of exactly its length. */
  readonly payload: Uint8Array;
  /** What `encode` said of it. */
  readonly encoded: Encoded;
}

/**
 * A codec between guarded buffers: every call checks what holds for all of them.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * const probe = new CodecProbe(normfloat4);
 * const { payload } = probe.encode({ name: "normfloat4", block: 64 }, "F32", 99, ordinary("F32", 99, 1));
 * expectCode("PAYLOAD_INVALID", () => probe.decode({ name: "normfloat4", block: 64 }, "F32", 98, payload, "F32"));
 * console.log(joined([payload, payload]).length);
 */
export class CodecProbe {
  readonly #codec: Codec;

  constructor(codec: Codec) {
    this.#codec = codec;
  }

  /** Every length that a payload can have. */
  sizes(spec: CodecSpec, dtype: DType, elements: number): readonly number[] {
    const largest = this.#codec.payloadBytes(spec, dtype, elements);
    const sizes = this.#codec.payloadSizes?.(spec, dtype, elements) ?? [largest];
    expectTrue(sizes.at(-1) === largest, "the largest size is the one announced");
    expectTrue(
      sizes.every((size, i) => i === 0 || size > sizes[i - 1]!),
      "sizes ascend",
    );
    return sizes;
  }

  /** Encodes into a target with room behind the payload, `offset` bytes into its buffer. */
  encode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    source: Uint8Array,
    offset = 0,
    at: ChunkPosition = UNNAMED,
  ): Made {
    const sizes = this.sizes(spec, dtype, elements);
    const before = source.slice();
    const room = new Uint8Array(offset + sizes.at(-1)! + 64).fill(UNTOUCHED);
    const encoded = this.#codec.encode(spec, dtype, elements, source, room.subarray(offset), at);
    expectSame(source, before, "the source is never written");
    const end = offset + (encoded.declined ? sizes.at(-1)! : encoded.bytes);
    expectUntouched(room.subarray(0, offset), "before the payload");
    expectUntouched(room.subarray(end), "beyond the payload");
    if (encoded.declined) return { payload: new Uint8Array(), encoded };
    expectTrue(sizes.includes(encoded.bytes), "bytes as announced");
    const scaleBytes = this.#codec.scaleBytes(spec, dtype, elements);
    expectTrue(encoded.scaleBytes === scaleBytes, "scale bytes as announced");
    const segments = segmentsOf(this.#codec, spec, dtype, elements, encoded.bytes);
    expectTrue(
      segments.every((length) => length > 0),
      "no part of a payload is empty",
    );
    const bytes = segments.reduce((sum, length) => sum + length, 0);
    expectTrue(bytes === encoded.bytes, "its parts make up the payload");
    return { payload: room.slice(offset, end), encoded };
  }

  /** Decodes a payload to a dtype. */
  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    offset = 0,
  ): Uint8Array {
    const size = byteLength(output, elements);
    const before = payload.slice();
    const room = new Uint8Array(offset + size + 64).fill(UNTOUCHED);
    try {
      this.#codec.decode(spec, dtype, elements, payload, output, room.subarray(offset));
    } finally {
      expectSame(payload, before, "the payload is never written");
      expectUntouched(room.subarray(0, offset), "before the elements");
      expectUntouched(room.subarray(offset + size), "beyond the elements");
    }
    return room.slice(offset, offset + size);
  }
}

/** Expects a `TensorwireError` of this code. */
export function expectCode(code: string, act: () => unknown): void {
  expect(act).toThrowError(expect.objectContaining({ code }));
}

/** The parts, one behind the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
