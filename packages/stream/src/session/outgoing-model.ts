import type { ChunkPlan, CodecRegistry, Manifest, SlabAlignment } from "@tensorwire/core";
import type { ErrorFeedback } from "../residuals/error-feedback.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "../source/source.js";
import { publishEnd } from "./diagnostics.js";
import { OutgoingPools } from "./outgoing-pools.js";
import { Tally } from "./summary.js";
import type { TransferLife } from "./transfer.js";

export interface OutgoingSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  /** Open. It is closed with the model: what it has read ahead is lent by the pools. */
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
    this.pools = new OutgoingPools(manifest, plan, registry, alignment);
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

  /** The transfer is over, either way. */
  async close({ error }: TransferLife): Promise<void> {
    await this.settings.source.close();
    const loans = this.pools.loans + (this.settings.feedback?.loans ?? 0);
    publishEnd({ role: "send", error, loans });
  }
}
