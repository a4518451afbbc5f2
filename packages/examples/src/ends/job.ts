import type { ProgressEvent, StreamOptions, TransferSummary } from "@tensorwire/stream";
import type { NoiseModelSize } from "../model/noise-model.js";

/** Options of `streamModel` that can be told to another process. */
export type SendOptions = Pick<StreamOptions, "codec" | "minElements" | "windowBytes" | "chunkBytes">;

/** The ways of NVFlare's own comparison: the whole model in memory as one blob, tensor by tensor, file to file. */
export const WAYS = ["regular", "container", "file"] as const;
export type Way = (typeof WAYS)[number];

/** What the sending process is asked to do. */
export type SendJob =
  | { readonly way: "regular"; readonly source: string; readonly url: string }
  | {
      readonly way: "container";
      readonly url: string;
      readonly model: NoiseModelSize;
      /**
       * The caller holds one buffer that every tensor reuses, or all tensors before the transfer begins: to yield them
       * one by one, or to hand them over as a map.
       */
      readonly held: "one" | "all" | "map";
      readonly options: SendOptions;
    }
  | { readonly way: "file"; readonly source: string; readonly url: string; readonly options: SendOptions };

/** What the receiving process is asked to do. */
export type ReceiveJob =
  | { readonly way: "regular"; readonly target: string }
  | {
      readonly way: "container";
      readonly windowBytes?: number | undefined;
      /** What the codec may be off, as a share of a block's largest value: see `checkNoise`. Not looked at without it. */
      readonly tolerance?: number | undefined;
    }
  | { readonly way: "file"; readonly target: string; readonly windowBytes?: number | undefined };

/** What came of a job. */
export interface JobResult {
  /** Absent for the regular way, which is not ours. */
  readonly summary?: TransferSummary | undefined;
  /** From connect to receipt, as the caller sees it. */
  readonly seconds: number;
  /** The largest tensor that the caller itself held. */
  readonly callerBytes: number;
}

/** What a process says of itself and its job. */
export type Report =
  | { readonly kind: "ready"; readonly rssBytes: number }
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "progress"; readonly event: ProgressEvent }
  | { readonly kind: "done"; readonly result: JobResult }
  | { readonly kind: "failed"; readonly error: { readonly name: string; readonly message: string } };
