import { BATCH_BYTES, type Chunk, type ChunkPlan, type CodecRegistry, type Manifest } from "@tensorwire/core";
import { isExact } from "../session/exact.js";
import {
  type EncodedSource,
  isEncodedSource,
  type ModelSource,
  type SourceMemory,
} from "../source/source.js";
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

/** Chunks that are encoded side by side, at most. */
const LANE_CHUNKS = 4;

/**
 * Source bytes that a sender has read, encoded or on their way out, at most; one more frame is being sent.
 * @param asItIs There is nothing to encode or to pack: the next chunk is read while one is being sent.
 */
export function laneBytes({ maxChunkBytes }: ChunkPlan, windowBytes: number, asItIs = false): number {
  // Small ones by the frame that they share: four of them alone would be a frame, and a system call, for each four.
  const frameBytes = Math.max(maxChunkBytes, BATCH_BYTES);
  return Math.min(windowBytes / 2, asItIs ? frameBytes : LANE_CHUNKS * frameBytes);
}

/** Slabs of each pool. */
interface StepSlabs {
  readonly source: number;
  readonly payloads: number;
  readonly packed: number;
  /** Of the source's own. */
  readonly lent: number;
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
    const { plan, windowBytes, source, compress } = settings;
    this.#reading = source.memory?.(plan) ?? { slabs: 1, bytes: 0 };
    this.stepBytes = Math.max(plan.maxChunkBytes, BATCH_BYTES);
    const most =
      laneBytes(plan, windowBytes, isEncodedSource(source) && !compress) + plan.maxChunkBytes + BATCH_BYTES;
    this.maxSteps = Math.ceil(most / this.stepBytes);
    this.#slabs = this.#count();
  }

  bytes(steps: number): number {
    const { source, payloads, packed, lent } = this.#slabs[steps]!;
    const { pools, residualBytes } = this.settings;
    const ours = source * pools.source.slabBytes + payloads * pools.payloads.slabBytes;
    const theirs = lent * (this.#reading.lent?.slabBytes ?? 0) + (steps && this.#reading.bytes);
    return ours + packed * pools.packed.slabBytes + steps * residualBytes + theirs;
  }

  /** Gives back what the pools have beyond so many steps. */
  keep(steps: number): void {
    const { source, payloads, packed, lent } = this.#slabs[steps]!;
    const { pools } = this.settings;
    this.#reading.lent?.keep(lent);
    pools.source.keep(source);
    pools.payloads.keep(payloads);
    pools.packed.keep(packed);
  }

  #count(): StepSlabs[] {
    const { manifest, source, pools, registry, compress, lossless } = this.settings;
    const { lends = false, loans, lent, slabs } = this.#reading;
    const encoded = isEncodedSource(source);
    const codecs = manifest.tensors.map(({ codec }) => codec);
    // What is packed is unpacked for a peer that cannot: then it is there twice, whoever has lent it.
    const unpacks = encoded && !lossless;
    const read = (c: Chunk): number => (loans && !unpacks ? loans.of(c) : c.bytes);
    const payload = ({ tensor, elements }: Chunk): number => {
      const { codec, dtype } = manifest.tensors[tensor]!;
      return codec.name === "none" ? 0 : registry.get(codec.name).payloadBytes(codec, dtype, elements);
    };
    const counts = {
      source: this.#slabCount(read, pools.source.slabBytes),
      payloads: this.#slabCount(payload, pools.payloads.slabBytes),
      packed: this.#slabCount((c) => Math.max(c.bytes, payload(c)), pools.packed.slabBytes),
      lent: lent && this.#slabCount((c) => lent.of(c), lent.slabBytes),
    };
    // A chunk that falls back is there twice, too: as it is, and as it travels.
    const falls = !encoded && lossless && codecs.some((codec) => !isExact(codec));
    const packing = !encoded && (falls || codecs.some(({ name }) => name === "lossless"));
    const packs = lossless && (compress || packing);
    const twice = falls || (unpacks && !lends) ? 2 : 1;
    const reads = !lends || unpacks;
    return Array.from({ length: this.maxSteps + 1 }, (_, steps) => {
      const bytes = steps * this.stepBytes;
      return {
        source: steps && reads ? counts.source.within(bytes) * twice + slabs : 0,
        payloads: encoded ? 0 : counts.payloads.within(bytes),
        packed: packs ? counts.packed.within(bytes) : 0,
        lent: counts.lent?.within(bytes) ?? 0,
      };
    });
  }

  #slabCount(lent: (chunk: Chunk) => number, slabBytes: number): SlabCount {
    const { plan } = this.settings;
    function* loans(): Generator<ChunkLoan> {
      for (const chunk of plan.walk()) yield { counted: chunk.bytes, lent: lent(chunk) };
    }
    return new SlabCount(loans(), plan.chunks, slabBytes);
  }
}
