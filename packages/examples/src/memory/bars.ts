import type { Measurement } from "./measurement.js";

const MiB = 2 ** 20;

/** The window that the bars are for, and the codec. */
export const BAR_WINDOW_BYTES = 32 * MiB;
export const BAR_CODEC = "normfloat4";

/** Peak RSS of either process, whatever the model; what the caller itself holds comes on top. */
export const PEAK_BYTES = 200 * MiB;
/** How much more that may be for a model four times as large. */
export const DRIFT_BYTES = 16 * MiB;

/** A bound, and what was measured against it. */
export interface Bar {
  readonly name: string;
  readonly bytes: number;
  readonly limitBytes: number;
  readonly pass: boolean;
}

/** The runs of one way: with the model, and with one of a quarter of its size. */
export interface WayRuns {
  readonly large: readonly Measurement[];
  readonly small: readonly Measurement[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Peak RSS without the tensor that the caller itself holds: the median of the runs. */
export function ownPeak(runs: readonly Measurement[], end: "sender" | "receiver"): number {
  return median(runs.map((run) => run[end].peakBytes - run[end].callerBytes));
}

/** The bars of a way that streams. */
export function wayBars(way: "container" | "file", { large, small }: WayRuns): Bar[] {
  return (["sender", "receiver"] as const).flatMap((end) => {
    const peak = ownPeak(large, end);
    const beside = way === "container" ? ", beside its caller's one tensor" : "";
    return [
      bar(`${way}: peak RSS of the ${end}${beside}`, peak, PEAK_BYTES),
      bar(`${way}: the ${end}'s growth over a model of a quarter`, peak - ownPeak(small, end), DRIFT_BYTES),
    ];
  });
}

const bar = (name: string, bytes: number, limitBytes: number): Bar => ({
  name,
  bytes,
  limitBytes,
  pass: bytes <= limitBytes,
});
