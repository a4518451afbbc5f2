import { median } from "../memory/bars.js";

/** A process of a run. */
export interface ScalingEnd {
  readonly name: string;
  readonly peakBytes: number;
  readonly cpuSeconds: number;
}

export interface ScalingRun {
  readonly seconds: number;
  readonly ends: readonly ScalingEnd[];
}

/** Runs at one place of the axis. */
export interface ScalingPoint {
  readonly x: number;
  readonly runs: readonly ScalingRun[];
  readonly failed?: string;
}

/** What is changed, with all else as it was. */
export interface ScalingSeries {
  readonly id: string;
  readonly title: string;
  /** What stays as it is, and what the time is of. */
  readonly setting: string;
  readonly axis: { readonly title: string; readonly of: "bytes" | "count"; readonly scale: "linear" | "log" };
  readonly points: readonly ScalingPoint[];
}

export interface ScalingData {
  readonly series: readonly ScalingSeries[];
}

/** Medians of a point's runs. */
export interface ScalingFigures {
  readonly x: number;
  readonly seconds: number;
  readonly ends: readonly ScalingEnd[];
}

/** Of the points that have any. */
export function figuresOf({ points }: ScalingSeries): ScalingFigures[] {
  return points
    .filter(({ runs }) => runs.length)
    .map(({ x, runs }) => ({
      x,
      seconds: median(runs.map(({ seconds }) => seconds)),
      ends: runs[0]!.ends.map(({ name }, i) => ({
        name,
        peakBytes: median(runs.map(({ ends }) => ends[i]!.peakBytes)),
        cpuSeconds: median(runs.map(({ ends }) => ends[i]!.cpuSeconds)),
      })),
    }));
}

export const MODEL_SIZE = "model-size";

export const seriesOf = ({ series }: ScalingData, id: string): ScalingSeries | undefined =>
  series.find((each) => each.id === id);
