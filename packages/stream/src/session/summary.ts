import {
  type ChunkPlan,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  formatDigest,
  formatSha256,
  type Manifest,
  Packing,
} from "@tensorwire/core";
import type { Progress } from "./progress.js";

/** What a codec carried: of chunks that travelled in this call, each as often as it did. */
export interface CodecSummary {
  /** Tensors that travelled by it. */
  tensors: number;
  /** Source bytes of its chunks. */
  sourceBytes: number;
  /** Bytes that travelled: of payloads as they are, scale data included, or packed. */
  wireBytes: number;
  /** The payloads' own size, before packing. */
  payloadBytes: number;
}

/**
 * What a transfer did. Sizes are in bytes. Tensors, chunks and source bytes are the whole model's; what is counted of
 * payloads is of the chunks that travelled in this call: without those that were there before, and twice of one that an
 * interruption took back.
 */
export interface TransferSummary {
  /** Tensors of the transfer. */
  tensors: number;
  /** Chunks of the transfer. */
  chunks: number;
  /** The model's size, decoded. */
  sourceBytes: number;
  /** What went over channels for this transfer, frames and all; not the channel's own preamble and HELLO. */
  wireBytes: number;
  /** Payloads without their scale data, before packing. */
  codeBytes: number;
  /** Bytes of payloads that are scales. */
  scaleBytes: number;
  /**
   * Chunks that travelled exactly, as `lossless` or `none`, and not in their tensor's codec: it could not carry a value
   * in them, or declined.
   */
  fallbackChunks: number;
  /**
   * How many of them the codec declined, since it would have saved nothing (`adaquant`). Known where they are encoded:
   * 0 at the receiver, and of an artifact.
   */
  declinedChunks: number;
  /** Chunks that travelled packed. */
  packedChunks: number;
  /** Finite elements that were clamped to their codec's range. */
  clamped: number;
  /** Source bytes that an earlier call had brought already. */
  resumedBytes: number;
  /** How often this call has connected again after an interruption. */
  retries: number;
  /** From the call to its end. */
  seconds: number;
  /** The process's peak resident set so far. */
  peakRssBytes: number;
  /** What travelled by each codec, by its name. */
  codecs: Record<string, CodecSummary>;
  /** Sixteen hexadecimal digits; the same at both ends. */
  digest: string;
  /** With integrity `sha256`, the digest by that: sixty-four hexadecimal digits; the same at both ends. */
  sha256: string | undefined;
  /** Whether the receiver said that everything is verified and durable. */
  confirmed: boolean;
  /** Where the codecs ran. */
  backend: string;
  /** Of how many bytes of elements, by the name of what encoded or decoded them here: a GPU's backend leaves some to the CPU's. */
  backends: Record<string, number>;
}

/** Adds up a transfer as its chunks go by. */
export class Tally {
  #codeBytes = 0;
  #scaleBytes = 0;
  #fallbackChunks = 0;
  #packedChunks = 0;
  clamped = 0;
  declinedChunks = 0;
  readonly #codecs = new Map<string, CodecSummary>();

  constructor(
    readonly manifest: Manifest,
    readonly registry: CodecRegistry,
    private readonly plan: ChunkPlan,
  ) {
    for (const { codec } of manifest.tensors) this.#codec(codec.name).tensors++;
  }

  add(
    record: Pick<ChunkRecord, "tensor" | "codec" | "elements" | "packing" | "payloadBytes" | "packedBytes">,
    sourceBytes: number,
  ): void {
    const { codec: spec, dtype } = this.manifest.tensors[record.tensor]!;
    const codec = this.registry.byId(record.codec);
    const fallback = codec.name !== spec.name;
    const scaleBytes = fallback ? 0 : codec.scaleBytes(spec, dtype, record.elements);
    this.#scaleBytes += scaleBytes;
    this.#codeBytes += record.payloadBytes - scaleBytes;
    if (fallback) this.#fallbackChunks++;
    if (record.packing !== Packing.RAW) this.#packedChunks++;
    // Bytes count for the codec that carried them, tensors for the one that the manifest gave them.
    const summary = this.#codec(codec.name);
    summary.sourceBytes += sourceBytes;
    summary.wireBytes += record.packedBytes;
    summary.payloadBytes += record.payloadBytes;
  }

  /** What a backend does that does all of it; what travels as it is asks for none. */
  #ran(backend: string): Record<string, number> {
    let bytes = 0;
    for (const [codec, { sourceBytes }] of this.#codecs) if (codec !== "none") bytes += sourceBytes;
    return bytes > 0 ? { [backend]: bytes } : {};
  }

  #codec(name: string): CodecSummary {
    let summary = this.#codecs.get(name);
    if (!summary) {
      summary = { tensors: 0, sourceBytes: 0, wireBytes: 0, payloadBytes: 0 };
      this.#codecs.set(name, summary);
    }
    return summary;
  }

  summary(end: {
    progress: Pick<Progress, "wireBytes" | "seconds" | "resumedBytes" | "retries">;
    digest: bigint;
    sha256: Uint8Array | undefined;
    confirmed: boolean;
    backend: Pick<CodecBackend, "name" | "ran">;
  }): TransferSummary {
    const { wireBytes, seconds, resumedBytes, retries } = end.progress;
    return {
      tensors: this.manifest.tensors.length,
      chunks: this.plan.chunks,
      sourceBytes: this.plan.bytes,
      wireBytes,
      codeBytes: this.#codeBytes,
      scaleBytes: this.#scaleBytes,
      fallbackChunks: this.#fallbackChunks,
      declinedChunks: this.declinedChunks,
      packedChunks: this.#packedChunks,
      clamped: this.clamped,
      resumedBytes,
      retries,
      seconds,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      codecs: Object.fromEntries(this.#codecs),
      digest: formatDigest(end.digest),
      sha256: end.sha256 && formatSha256(end.sha256),
      confirmed: end.confirmed,
      backend: end.backend.name,
      backends: { ...(end.backend.ran ?? this.#ran(end.backend.name)) },
    };
  }
}
