import type { ChunkPlan, CodecRegistry, Manifest, SlabAlignment } from "@tensorwire/core";
import type { ErrorFeedback } from "../residuals/error-feedback.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "../source/source.js";
import { OutgoingPools } from "./outgoing-pools.js";
import { Tally } from "./summary.js";

export interface OutgoingSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  /** Open. It is closed last: what it has read ahead is lent by the pools. */
  readonly source: ModelSource | EncodedSource;
  readonly version: string | undefined;
  readonly registry: CodecRegistry;
  readonly alignment: SlabAlignment | undefined;
  readonly feedback: ErrorFeedback | undefined;
}

/** What a sender has of a model, over all attempts at it: the open source, what it is announced as, and buffers. */
export class OutgoingModel {
  readonly pools: OutgoingPools;
  readonly tally: Tally;

  constructor(private readonly settings: OutgoingSettings) {
    const { manifest, plan, source, registry, alignment } = settings;
    this.pools = new OutgoingPools(manifest, plan, registry, alignment, source.memory?.(plan));
    this.tally = new Tally(manifest, registry, plan);
    // Of an artifact: what its encoder counted.
    if (isEncodedSource(source)) this.tally.clamped = source.clamped ?? 0;
  }

  /** What every attempt needs of it. */
  get parts() {
    const { manifest, plan, source, version, feedback } = this.settings;
    const { pools, tally } = this;
    return { manifest, plan, source, version, feedback, pools, tally };
  }

  /** Buffers that are not back. When the transfer is over, either way, there are none. */
  get loans(): number {
    return this.pools.loans + (this.settings.feedback?.loans ?? 0);
  }
}
