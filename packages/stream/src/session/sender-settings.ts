import type { ChunkPlan, CodecBackend, CodecRegistry, Manifest } from "@tensorwire/core";
import type { Reserve } from "../budget/memory-budget.js";
import type { TransferTrace } from "../diagnostics/transfer-trace.js";
import type { ErrorFeedback } from "../residuals/error-feedback.js";
import type { EncodedSource, ModelSource } from "../source/source.js";
import type { OutgoingPools } from "./outgoing-pools.js";
import type { Progress } from "./progress.js";
import type { Tally } from "./summary.js";
import type { TransferLife } from "./transfer.js";

/** What one attempt at sending a model is made of. */
export interface SenderSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  /** Open. */
  readonly source: ModelSource | EncodedSource;
  /** The source's version token. */
  readonly version: string | undefined;
  readonly pools: OutgoingPools;
  /** Counts what travels, in this attempt and others. */
  readonly tally: Tally;
  readonly windowBytes: number;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly budget: Reserve | undefined;
  readonly progress: Progress;
  /** Of this attempt. */
  readonly life: TransferLife;
  readonly trace: TransferTrace;
  /** How long the peer may do nothing for it. 0: for ever. */
  readonly stallTimeoutMs: number;
  /** Pack every payload that becomes smaller by it, and not only those of codecs that are made for it. */
  readonly compress: boolean;
  /** What becomes of a chunk with a value that its codec cannot carry: it travels exactly, or ends the transfer. */
  readonly nonFinite: "exact" | "error";
  /** The peer has `lossless`, and so undoes packing. */
  readonly lossless: boolean;
  /** What becomes of chunks that the peer holds of another state of the source. */
  readonly ifChanged: "resend" | "restart" | "fail";
  /** Keeps what payloads leave out for the next transfer. */
  readonly feedback?: ErrorFeedback | undefined;
  /** The longest manifest that the peer takes. */
  readonly maxManifestBytes: number;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}
