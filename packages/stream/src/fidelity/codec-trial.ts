import {
  type Chunk,
  type ChunkPosition,
  type CodecSpec,
  type DecodeJob,
  type EncodedChunk,
  type ErrorFigures,
  ErrorSums,
  isFloatDType,
  segmentsOf,
  type TensorInfo,
  xxh64,
} from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";

/** What a codec makes of a model. */
export interface CodecEvaluation {
  /** With all of its parameters. */
  readonly codec: CodecSpec;
  /** Tensors that get the codec; the others travel as `none`. */
  readonly tensors: number;
  /** Bytes of all payloads: those of the codec, and those of what travels exactly. */
  readonly bytes: number;
  /** How many of them are scale data. */
  readonly scaleBytes: number;
  /** The same with each payload packed where that makes it smaller. */
  readonly packedBytes: number;
  /** `bytes` in bits an element. */
  readonly bitsPerWeight: number;
  /** `packedBytes` in bits an element. */
  readonly packedBitsPerWeight: number;
  /** Chunks that the codec could not carry, or that it declined: they travel exactly. */
  readonly exactChunks: number;
  /** Finite elements that it clamped. */
  readonly clamped: number;
  /** How far its float tensors come from the original. */
  readonly error: ErrorFigures;
  /** Source bytes a second, chunk after chunk, of the chunks that it carries; 0 where there are none. */
  readonly encodeBytesPerSecond: number;
  /** The same of decoding them. */
  readonly decodeBytesPerSecond: number;
}

/** Memory that all trials share: each takes one chunk at a time. */
export interface TrialBuffers {
  readonly payload: Uint8Array;
  readonly packed: Uint8Array;
  readonly unpacked: Uint8Array;
  readonly decoded: Uint8Array;
}

type Settings = Pick<ResolvedOptions, "backend" | "registry">;

const utf8 = new TextEncoder();
const NONE: CodecSpec = { name: "none" };
const LOSSLESS: CodecSpec = { name: "lossless" };

/** Encodes and decodes a model's chunks with one codec, and keeps count. */
export class CodecTrial {
  readonly #error = new ErrorSums();
  readonly #exactly: CodecSpec;
  #bytes = 0;
  #scaleBytes = 0;
  #packedBytes = 0;
  #exactChunks = 0;
  #clamped = 0;
  #carriedBytes = 0;
  #encodeSeconds = 0;
  #decodeSeconds = 0;
  #warm = false;
  readonly #names: readonly bigint[];

  /** @param codecs of each tensor, as a policy gives them. */
  constructor(
    private readonly codec: CodecSpec,
    private readonly codecs: readonly CodecSpec[],
    private readonly tensors: readonly TensorInfo[],
    private readonly settings: Settings,
    private readonly buffers: TrialBuffers,
  ) {
    this.#names = tensors.map(({ name }) => xxh64(utf8.encode(name)));
    this.#exactly = settings.registry.names().includes(LOSSLESS.name) ? LOSSLESS : NONE;
  }

  /** The chunk's bytes, as the source gave them. */
  async add(chunk: Chunk, source: Uint8Array): Promise<void> {
    const codec = this.codecs[chunk.tensor]!;
    const { dtype } = this.tensors[chunk.tensor]!;
    const float = isFloatDType(dtype) ? { dtype, bytes: source, first: 0 } : undefined;
    if (codec.name === NONE.name) {
      await this.#exact(chunk, source, NONE);
      // Of a policy's exceptions nothing is said; of `none` itself that it loses nothing.
      if (float && this.codec.name === NONE.name) this.#error.add(float, float, chunk.elements);
      return;
    }
    if (!this.#warm) {
      // Once for nothing: code is compiled, and memory touched.
      await this.#carry(chunk, source, codec);
      this.#encodeSeconds = this.#decodeSeconds = 0;
      this.#warm = true;
    }
    const encoded = await this.#carry(chunk, source, codec);
    if (!encoded) {
      this.#exactChunks++;
      await this.#exact(chunk, source, this.#exactly);
      if (float) this.#error.add(float, float, chunk.elements);
      return;
    }
    this.#carriedBytes += chunk.bytes;
    this.#clamped += encoded.clamped;
    await this.#count(chunk, source, codec, encoded);
    if (float) this.#error.add(float, { ...float, bytes: this.buffers.decoded }, chunk.elements);
  }

  /** There and back, against the clock; `undefined` where the codec does not carry the chunk. */
  async #carry(chunk: Chunk, source: Uint8Array, codec: CodecSpec): Promise<EncodedChunk | undefined> {
    const { backend, registry } = this.settings;
    const { payload, packed, unpacked, decoded } = this.buffers;
    const { dtype } = this.tensors[chunk.tensor]!;
    const { elements } = chunk;
    const packs = registry.get(codec.name).packs === true;
    const began = performance.now();
    const encoded = await backend.encode({
      codec,
      dtype,
      elements,
      source,
      target: payload,
      packed: packs ? packed : undefined,
      at: this.#position(chunk),
    });
    const between = performance.now();
    if (encoded.nonFinite > 0 || encoded.declined) return undefined;
    const { bytes, hash, packedBytes = 0 } = encoded;
    const job: DecodeJob = {
      codec,
      dtype,
      elements,
      payload: packedBytes ? packed.subarray(0, packedBytes) : payload.subarray(0, bytes),
      unpacked: packedBytes ? unpacked.subarray(0, bytes) : undefined,
      hash,
      output: dtype,
      target: decoded,
    };
    const from = performance.now();
    await backend.decode(job);
    this.#encodeSeconds += (between - began) / 1000;
    this.#decodeSeconds += (performance.now() - from) / 1000;
    return encoded;
  }

  /** A chunk that travels exactly, in a codec without a loss. */
  async #exact(chunk: Chunk, source: Uint8Array, codec: CodecSpec): Promise<void> {
    const { backend, registry } = this.settings;
    const { dtype } = this.tensors[chunk.tensor]!;
    const reference = registry.get(codec.name);
    if (codec.name !== NONE.name && reference.supports(dtype)) {
      await this.#count(chunk, source, codec);
      return;
    }
    const segments = segmentsOf(registry.get(NONE.name), NONE, dtype, chunk.elements, chunk.bytes);
    const packed = this.buffers.packed.subarray(0, chunk.bytes);
    const { packedBytes } = await backend.pack({ payload: source, segments, packed });
    this.#bytes += chunk.bytes;
    this.#packedBytes += packedBytes || chunk.bytes;
  }

  /** Counts the chunk's payload: as it travels, and packed as a transfer packs it, which is where it is encoded. */
  async #count(chunk: Chunk, source: Uint8Array, codec: CodecSpec, encoded?: EncodedChunk): Promise<void> {
    const { backend, registry } = this.settings;
    const { payload: target, packed } = this.buffers;
    const { dtype } = this.tensors[chunk.tensor]!;
    const packs = registry.get(codec.name).packs === true;
    const { elements } = chunk;
    const job = { codec, dtype, elements, source, target, packed, at: this.#position(chunk) };
    const { bytes, scaleBytes, packedBytes } = packs && encoded ? encoded : await backend.encode(job);
    const shorter = packedBytes || bytes;
    this.#bytes += packs ? shorter : bytes;
    this.#packedBytes += shorter;
    this.#scaleBytes += scaleBytes;
  }

  #position({ tensor, first }: Chunk): ChunkPosition {
    return { tensor: this.#names[tensor]!, first };
  }

  /** @param elements of the whole model. */
  evaluation(elements: number): CodecEvaluation {
    const bits = (bytes: number): number => (elements ? (8 * bytes) / elements : 0);
    const rate = (seconds: number): number => (seconds > 0 ? this.#carriedBytes / seconds : 0);
    return {
      codec: this.codec,
      tensors: this.codecs.filter(({ name }) => name === this.codec.name).length,
      bytes: this.#bytes,
      scaleBytes: this.#scaleBytes,
      packedBytes: this.#packedBytes,
      bitsPerWeight: bits(this.#bytes),
      packedBitsPerWeight: bits(this.#packedBytes),
      exactChunks: this.#exactChunks,
      clamped: this.#clamped,
      error: this.#error.figures,
      encodeBytesPerSecond: rate(this.#encodeSeconds),
      decodeBytesPerSecond: rate(this.#decodeSeconds),
    };
  }
}
