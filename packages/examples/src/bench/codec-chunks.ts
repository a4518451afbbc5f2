import {
  byteLength,
  type CodecBackend,
  type DecodeJob,
  defaultCodecs,
  type EncodeJob,
} from "@tensorwire/core";
import type { CodecCase } from "./codec-cases.js";

export const CHUNK_BYTES = 4 * 2 ** 20;
const IN_FLIGHT = 4;
const CACHE_LINE = 64;

/** Where the bytes of a measurement are, each as long as the source and `STRIDE_ROOM` more a chunk: nothing is allocated while the clock runs. */
export interface Areas {
  readonly payload: Uint8Array;
  readonly packed: Uint8Array;
  readonly target: Uint8Array;
}

/** The longest that a payload is beyond its source, when it is: scales, and what fills its last cache line. */
export const STRIDE_ROOM = 64 * 1024;

/** What the payloads of all chunks come to. */
export interface Sizes {
  readonly sourceBytes: number;
  readonly payloadBytes: number;
  readonly scaleBytes: number;
  /** As they travel where packing is allowed. */
  readonly packedBytes: number;
}

interface Jobs {
  readonly encode: EncodeJob;
  readonly decode: DecodeJob;
}

/** A chunk as a contender sees it that packs, and one that does not: the same but for what is made to be packed. */
interface Chunk {
  readonly packed: Jobs;
  readonly plain: Jobs;
}

/** How a contender does a case. */
export interface Manner {
  readonly backend: CodecBackend;
  readonly packs: boolean;
  /** Several chunks in flight. */
  readonly parallel: boolean;
  /** How many, of all chunks. */
  readonly chunks: number;
}

/** The chunks of one case, to be encoded and decoded by one backend after another: the payloads are the same from all. */
export class CaseChunks {
  private constructor(
    private readonly chunks: readonly Chunk[],
    readonly sizes: Sizes,
  ) {}

  /** @param maker encodes them once, to know the payloads that will be decoded. */
  static async prepare(
    given: CodecCase,
    source: Uint8Array,
    areas: Areas,
    maker: CodecBackend,
  ): Promise<CaseChunks> {
    const { dtype } = given;
    const spec = defaultCodecs.resolve(given.spec);
    const codec = defaultCodecs.get(spec.name);
    const elements = CHUNK_BYTES / byteLength(dtype, 1);
    const room = codec.payloadBytes(spec, dtype, elements);
    const stride = Math.ceil(room / CACHE_LINE) * CACHE_LINE;
    const chunks: Chunk[] = [];
    const sizes = { sourceBytes: source.length, payloadBytes: 0, scaleBytes: 0, packedBytes: 0 };
    for (let i = 0; i * CHUNK_BYTES < source.length; i++) {
      const place = (area: Uint8Array, bytes: number): Uint8Array =>
        area.subarray(i * stride, i * stride + bytes);
      const packed = place(areas.packed, room);
      const job: EncodeJob = {
        codec: spec,
        dtype,
        elements,
        at: { tensor: 1n, first: i * elements },
        source: source.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES),
        target: place(areas.payload, room),
      };
      const made = await maker.encode({ ...job, packed });
      if (made.declined || made.nonFinite > 0) throw new Error(`${given.label} does not carry the noise`);
      const payload = place(areas.payload, made.bytes);
      // What is made to be packed is measured with its packing. The frames are kept apart: other packers make others.
      const frames = codec.packs && made.packedBytes ? packed.slice(0, made.packedBytes) : undefined;
      const decode: DecodeJob = {
        codec: spec,
        dtype,
        elements,
        payload,
        hash: made.hash,
        output: dtype,
        target: areas.target.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES),
      };
      const plain = { encode: job, decode };
      const unpacks = frames ? { ...decode, payload: frames, unpacked: payload } : decode;
      chunks.push({ plain, packed: codec.packs ? { encode: { ...job, packed }, decode: unpacks } : plain });
      sizes.payloadBytes += made.bytes;
      sizes.scaleBytes += made.scaleBytes;
      sizes.packedBytes += made.packedBytes || made.bytes;
    }
    return new CaseChunks(chunks, sizes);
  }

  /** GB/s of source to encode. */
  encode(manner: Manner): Promise<number> {
    return this.speed(manner, ({ encode }) => manner.backend.encode(encode));
  }

  /** GB/s of source to verify and decode. */
  decode(manner: Manner): Promise<number> {
    return this.speed(manner, ({ decode }) => manner.backend.decode(decode));
  }

  private async speed({ packs, parallel, chunks }: Manner, act: (jobs: Jobs) => unknown): Promise<number> {
    const count = Math.min(chunks, this.chunks.length);
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < count) {
        const done = act(this.chunks[next++]![packs ? "packed" : "plain"]);
        // What is done within the call costs no turn.
        if (done instanceof Promise) await done;
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: parallel ? IN_FLIGHT : 1 }, lane));
    return (count * CHUNK_BYTES) / (performance.now() - began) / 1e6;
  }
}
