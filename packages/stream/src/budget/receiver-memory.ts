import { BATCH_BYTES, byteLength, type Chunk, type CodecRegistry } from "@tensorwire/core";
import { JOINED_BYTES, LARGE_BYTES } from "../sink/adjoining-writes.js";
import { isEncodedSink, type Sink, type SinkModel } from "../sink/sink.js";
import type { ShareTerms } from "./share.js";
import { type ChunkLoan, SlabCount } from "./slab-count.js";

/** Steps that a window is divided into, at most: chunks that are smaller come several at a time. */
const MAX_STEPS = 32;

/** The pools of a receiver. */
export interface ReceiverPools {
  /** Of payloads as they arrive. */
  readonly pool: Slabs;
  readonly decoder: { readonly outputs: Slabs; readonly unpacked: Slabs };
}

/** What is to be known of a pool, and asked of it. */
export interface Slabs {
  readonly slabBytes: number;
  keep(slabs: number): void;
}

export interface ReceiverMemorySettings {
  readonly model: SinkModel;
  readonly sink: Sink;
  readonly pools: ReceiverPools;
  readonly registry: CodecRegistry;
  readonly windowBytes: number;
  /** Decoded bytes that each of the two lanes before the sink takes. */
  readonly laneBytes: number;
  /** Nobody grants credit: the channel is stopped where a portion of it ends. */
  readonly oneWay: boolean;
}

/** Slabs of each pool. */
interface StepSlabs {
  readonly payloads: number;
  readonly outputs: number;
  readonly unpacked: number;
}

/**
 * What a receiver takes of memory for so many steps of its window: the slabs that its pools can come to hold, chunk by chunk
 * as they follow one another in the plan, whatever its peer makes of them (exact, packed or not).
 */
export class ReceiverMemory implements ShareTerms {
  /** Source bytes of a step: a chunk, or as many small ones as make a good part of the window. */
  readonly stepBytes: number;
  readonly maxSteps: number;
  /** Of each number of steps, from none on. */
  readonly #slabs: readonly StepSlabs[];
  readonly #sinkBytes: number;

  constructor(private readonly settings: ReceiverMemorySettings) {
    const { model, windowBytes } = settings;
    this.#sinkBytes = sinkBytes(settings);
    this.stepBytes = Math.max(model.plan.maxChunkBytes, Math.ceil(windowBytes / MAX_STEPS));
    this.maxSteps = Math.ceil(windowBytes / this.stepBytes);
    this.#slabs = this.#count();
  }

  /** Source bytes that may be granted with so many steps. */
  window(steps: number): number {
    return Math.min(steps * this.stepBytes, this.settings.windowBytes);
  }

  bytes(steps: number): number {
    const { payloads, outputs, unpacked } = this.#slabs[steps]!;
    const { pools } = this.settings;
    const { decoder } = pools;
    const lent = payloads * pools.pool.slabBytes + outputs * decoder.outputs.slabBytes;
    return lent + unpacked * decoder.unpacked.slabBytes + this.#sinkBytes;
  }

  /** Gives back what the pools have beyond so many steps. */
  keep(steps: number): void {
    const { payloads, outputs, unpacked } = this.#slabs[steps]!;
    const { pools } = this.settings;
    pools.pool.keep(payloads);
    pools.decoder.outputs.keep(outputs);
    pools.decoder.unpacked.keep(unpacked);
  }

  #count(): StepSlabs[] {
    const { sink, model, laneBytes, pools, oneWay } = this.settings;
    const { plan } = model;
    // The portion that brings the end of a chunk brings the beginning of the next one.
    const least = oneWay ? 2 * plan.maxChunkBytes : 0;
    const { outputs, unpacked } = pools.decoder;
    const output = (chunk: Chunk): number => byteLength(model.dtypes[chunk.tensor]!, chunk.elements);
    const payload = (chunk: Chunk): number => this.#payloadBytes(chunk);
    const counts = {
      payloads: this.#slabCount((chunk) => chunk.bytes, payload, pools.pool),
      outputs: this.#slabCount(output, output, outputs),
      unpacked: this.#slabCount(output, payload, unpacked),
    };
    let [largest, ratio] = [0, 0];
    for (const chunk of plan.walk()) {
      largest = Math.max(largest, output(chunk));
      ratio = Math.max(ratio, output(chunk) / chunk.bytes);
    }
    // The two lanes of `SinkPump`, and what is between them.
    const lane = Math.max(laneBytes, largest);
    // A sink that has places need not have one for every chunk.
    const own = !isEncodedSink(sink);
    const unpacks = isEncodedSink(sink) || model.manifest.tensors.some((_, i) => this.#decodes(i));
    return Array.from({ length: this.maxSteps + 1 }, (_, steps) => {
      const window = this.window(steps);
      return {
        payloads: counts.payloads.within(steps && Math.max(window, least)),
        outputs: own ? counts.outputs.within(Math.min(window * ratio, 2 * lane + largest)) : 0,
        unpacked: unpacks ? counts.unpacked.within(Math.min(window * ratio, lane)) : 0,
      };
    });
  }

  #slabCount(counted: (chunk: Chunk) => number, lent: (chunk: Chunk) => number, pool: Slabs): SlabCount {
    const { plan } = this.settings.model;
    function* loans(): Generator<ChunkLoan> {
      for (const chunk of plan.walk()) yield { counted: counted(chunk), lent: lent(chunk) };
    }
    return new SlabCount(loans(), plan.chunks, pool.slabBytes);
  }

  /** A chunk that falls back is as long as its source. */
  #payloadBytes({ tensor, elements, bytes }: Chunk): number {
    const { dtype, codec } = this.settings.model.manifest.tensors[tensor]!;
    if (codec.name === "none") return bytes;
    return Math.max(bytes, this.settings.registry.get(codec.name).payloadBytes(codec, dtype, elements));
  }

  /** Whether what is packed has to be unpacked elsewhere than in its place. */
  #decodes(tensor: number): boolean {
    const { manifest, dtypes } = this.settings.model;
    const { codec, dtype } = manifest.tensors[tensor]!;
    return codec.name !== "none" || dtypes[tensor] !== dtype;
  }
}

/** What the sinks of this library hold besides: small chunks, joined to one frame or write. */
function sinkBytes({ sink, model }: ReceiverMemorySettings): number {
  if (isEncodedSink(sink)) return BATCH_BYTES;
  return sink.place ? 0 : Math.min(JOINED_BYTES, smallBytes(model));
}

/** Decoded bytes of chunks that are small enough to be joined. */
function smallBytes({ plan, dtypes }: SinkModel): number {
  let sum = 0;
  for (const { tensor, elements } of plan.walk()) {
    const bytes = byteLength(dtypes[tensor]!, elements);
    if (bytes < LARGE_BYTES) sum += bytes;
  }
  return sum;
}
