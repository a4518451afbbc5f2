import { BATCH_BYTES, type Chunk, type ChunkPlan, type CodecRegistry, type Manifest } from "@tensorwire/core";
import { isExact } from "../session/exact.js";
import type { EncodedSource, ModelSource, SourceMemory } from "../source/source.js";
import type { Slabs } from "./receiver-memory.js";
import type { ShareTerms } from "./share.js";
import { type ChunkLoan, SlabCount } from "./slab-count.js";

/** The pools of a sender. */
export interface SenderPools {
  readonly source: Slabs;
  readonly payloads: Slabs;
  readonly packed: Slabs;
}

export interface SenderMemorySettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  readonly source: ModelSource | EncodedSource;
  readonly pools: SenderPools;
  readonly registry: CodecRegistry;
  readonly windowBytes: number;
  readonly compress: boolean;
  readonly lossless: boolean;
  /** What a chunk's residuals take besides. */
  readonly residualBytes: number;
}

/** Source bytes that a sender has read, encoded or on their way out, at most; one more frame is being sent. */
export function laneBytes({ maxChunkBytes }: ChunkPlan, windowBytes: number): number {
  // Small ones by the frame that they share: four of them alone would be a frame, and a system call, for each four.
  return Math.min(windowBytes / 2, Math.max(maxChunkBytes, BATCH_BYTES) * 4);
}

/** Slabs of each pool. */
interface StepSlabs {
  readonly source: number;
  readonly payloads: number;
  readonly packed: number;
}

/** What a sender takes of memory for so many steps of chunks that it reads ahead, at most. */
export class SenderMemory implements ShareTerms {
  /** Source bytes of a step: a chunk, or a frame of small ones. */
  readonly stepBytes: number;
  readonly maxSteps: number;
  /** Of each number of steps, from none on. */
  readonly #slabs: readonly StepSlabs[];

  /** What reading takes for a moment. */
  readonly #reading: SourceMemory;

  constructor(private readonly settings: SenderMemorySettings) {
    const { plan, windowBytes, source } = settings;
    this.#reading = source.memory?.(plan) ?? { slabs: 1, bytes: 0 };
    this.stepBytes = Math.max(plan.maxChunkBytes, BATCH_BYTES);
    const most = laneBytes(plan, windowBytes) + plan.maxChunkBytes + BATCH_BYTES;
    this.maxSteps = Math.ceil(most / this.stepBytes);
    this.#slabs = this.#count();
  }

  bytes(steps: number): number {
    const { source, payloads, packed } = this.#slabs[steps]!;
    const { pools, residualBytes } = this.settings;
    const lent = source * pools.source.slabBytes + payloads * pools.payloads.slabBytes;
    const own = steps && this.#reading.bytes;
    return lent + packed * pools.packed.slabBytes + steps * residualBytes + own;
  }

  /** Gives back what the pools have beyond so many steps. */
  keep(steps: number): void {
    const { source, payloads, packed } = this.#slabs[steps]!;
    const { pools } = this.settings;
    pools.source.keep(source);
    pools.payloads.keep(payloads);
    pools.packed.keep(packed);
  }

  #count(): StepSlabs[] {
    const { manifest, pools, registry, compress, lossless } = this.settings;
    const { lends = false } = this.#reading;
    const codecs = manifest.tensors.map(({ codec }) => codec);
    const chunk = (c: Chunk): number => c.bytes;
    const payload = ({ tensor, elements }: Chunk): number => {
      const { codec, dtype } = manifest.tensors[tensor]!;
      return codec.name === "none" ? 0 : registry.get(codec.name).payloadBytes(codec, dtype, elements);
    };
    const sources = this.#slabCount(chunk, pools.source);
    const payloads = this.#slabCount(payload, pools.payloads);
    const packed = this.#slabCount((c) => Math.max(c.bytes, payload(c)), pools.packed);
    // A chunk that falls back is there twice: as it is, and as it travels.
    const twice = lossless && codecs.some((codec) => !isExact(codec)) ? 2 : 1;
    const packing = !lends && (twice > 1 || codecs.some(({ name }) => name === "lossless"));
    const packs = lossless && (compress || packing);
    // What is lent by its source takes a place of ours only to be unpacked, for a peer that cannot.
    const reads = !lends || !lossless;
    return Array.from({ length: this.maxSteps + 1 }, (_, steps) => {
      const bytes = steps * this.stepBytes;
      return {
        source: steps && reads ? sources.within(bytes) * twice + this.#reading.slabs : 0,
        payloads: lends ? 0 : payloads.within(bytes),
        packed: packs ? packed.within(bytes) : 0,
      };
    });
  }

  #slabCount(lent: (chunk: Chunk) => number, pool: Slabs): SlabCount {
    const { plan } = this.settings;
    function* loans(): Generator<ChunkLoan> {
      for (const chunk of plan.walk()) yield { counted: chunk.bytes, lent: lent(chunk) };
    }
    return new SlabCount(loans(), plan.chunks, pool.slabBytes);
  }
}
