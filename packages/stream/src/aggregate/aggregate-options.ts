import { TensorwireError } from "@tensorwire/core";
import { checkWord, type TransferOptions } from "../options.js";

/** How models become one. */
export interface AggregateOptions extends Pick<TransferOptions, "limits" | "backend" | "registry"> {
  /** Ends it while models are opened and looked through, which takes as long as reading them: give that of the transfer. */
  readonly signal?: AbortSignal | undefined;
  /**
   * `"mean"`: weighted. `"trimmed-mean"` and `"median"`: element by element, of clients that count alike. `"sum-mod-2^32"`:
   * the sum of codes (`linearCodes`), under masks or not. Default `"mean"`.
   */
  readonly method?: "mean" | "trimmed-mean" | "median" | "sum-mod-2^32" | undefined;
  /**
   * What each client counts, by its id, or in the order of a list: positive. Default: the number in its metadata's
   * `num_examples`; where no client has one, all the same.
   */
  readonly weights?:
    | readonly number[]
    | ReadonlyMap<string, number>
    | Readonly<Record<string, number>>
    | undefined;
  /** Of `trimmed-mean`: which part of the clients is left out at either end, at least one of three. Default 0.1. */
  readonly trim?: number | undefined;
  /**
   * Scales each update down so that the L2 norm of all its tensors of floats is no more than this. Each update is read once
   * more for it, before the first chunk.
   */
  readonly clipNorm?: number | undefined;
  /** What means are summed in; `F64` tensors always in f64. Default `"f64"`. */
  readonly accumulator?: "f32" | "f64" | undefined;
  /**
   * Tensors that are not of floats, where clients do not agree: the first client's, with a notice; an error; the mean rounded
   * to the nearest, ties to even; the greatest. Default `"first"`.
   */
  readonly integers?: "first" | "error" | "mean-round" | "max" | undefined;
  /** A client with a value that is NaN or infinite is left out, or ends it all. Default `"exclude"`. */
  readonly nonFinite?: "exclude" | "error" | undefined;
}

/** `AggregateOptions`, filled in. */
export interface AggregateRule {
  readonly method: NonNullable<AggregateOptions["method"]>;
  readonly weights: AggregateOptions["weights"];
  readonly trim: number;
  readonly clipNorm: number | undefined;
  readonly accumulator: "f32" | "f64";
  readonly integers: NonNullable<AggregateOptions["integers"]>;
  readonly nonFinite: "exclude" | "error";
}

/** Options that say something of some methods only. */
const MEANINGFUL = {
  weights: ["mean"],
  trim: ["trimmed-mean"],
  clipNorm: ["mean", "trimmed-mean", "median"],
  accumulator: ["mean"],
  integers: ["mean", "trimmed-mean", "median"],
  nonFinite: ["mean", "trimmed-mean", "median"],
} as const satisfies Partial<Record<keyof AggregateOptions, readonly AggregateRule["method"][]>>;

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function aggregateRule(options: AggregateOptions): AggregateRule {
  const { method = "mean", weights, trim = 0.1, clipNorm } = options;
  checkWord("method", method, ["mean", "trimmed-mean", "median", "sum-mod-2^32"]);
  checkWord("accumulator", options.accumulator, ["f32", "f64"]);
  checkWord("integers", options.integers, ["first", "error", "mean-round", "max"]);
  checkWord("nonFinite", options.nonFinite, ["exclude", "error"]);
  for (const [option, methods] of Object.entries(MEANINGFUL)) {
    if (options[option as keyof typeof MEANINGFUL] === undefined) continue;
    if ((methods as readonly string[]).includes(method)) continue;
    throw invalid(`${option} is for ${methods.join(", ")}, and means nothing to ${method}: leave it out`);
  }
  if (!(trim > 0 && trim < 0.5)) {
    throw invalid(`trim is the part that is left out at either end, over 0 and under 0.5, not ${trim}`);
  }
  if (clipNorm !== undefined && !(clipNorm > 0 && Number.isFinite(clipNorm))) {
    throw invalid(`clipNorm is a positive number, not ${clipNorm}`);
  }
  const { accumulator = "f64", integers = "first", nonFinite = "exclude" } = options;
  return { method, weights, trim, clipNorm, accumulator, integers, nonFinite };
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
