import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { median } from "../memory/bars.js";
import { formatMiB } from "../model/byte-size.js";
import { type FaultKind, type FaultOptions, type FaultReport, never, type Verdict } from "./fault-kind.js";
import type { SoakReport, SoakTask, Weight } from "./soak/job.js";

const USUAL = 8000;
const PROGRAM = fileURLToPath(new URL("./soak/program.js", import.meta.url));
const MiB = 2 ** 20;
/** What the process may gain over the second half, by the line that fits most of it: a page kept a transfer is more. */
const RSS_BYTES = 12 * MiB;
const HEAP_BYTES = 2 * MiB;

function soaked({ seed, from, count = USUAL, scratch }: FaultOptions): Promise<SoakReport> {
  const task: SoakTask = { seed, from, count, scratch };
  const child = fork(PROGRAM, [JSON.stringify(task)], { execArgv: ["--expose-gc"] });
  return new Promise((resolve, reject) => {
    child.once("message", (report) => resolve(report as SoakReport));
    child.once("exit", (code, signal) =>
      reject(new Error(`the soaking process ended with ${signal ?? code}`)),
    );
  });
}

/** What a measure gains over the second half, by the median of the slopes between any two weighings: one outlier is none. */
function gain(weights: readonly Weight[], of: (weight: Weight) => number): number {
  const half = weights.slice(weights.length >> 1);
  if (half.length < 2) return 0;
  const slopes = half.flatMap((a, i) =>
    half.slice(i + 1).map((b) => (of(b) - of(a)) / (b.transfers - a.transfers)),
  );
  return median(slopes) * (half.at(-1)!.transfers - half[0]!.transfers);
}

function flat(what: string, grown: number, bound: number): Verdict {
  return {
    promise: `${what} is flat over the second half`,
    kept: grown <= bound,
    figures: `${formatMiB(grown)} of at most ${formatMiB(bound)}`,
  };
}

/** Kinds of handles of which there are more than before. */
function kept({ before, after }: SoakReport["handles"]): string[] {
  return Object.entries(after)
    .filter(([kind, count]) => count > (before[kind] ?? 0))
    .map(([kind, count]) => `${kind} ${before[kind] ?? 0} became ${count}`);
}

export const soak: FaultKind = {
  name: "soak",
  about: "thousands of transfers in one process over every channel, some of which fail or are given up",
  async run(options): Promise<FaultReport> {
    const { weights, endings, broken, loans, handles, listeners, descriptors } = await soaked(options);
    const transfers = weights.at(-1)!.transfers;
    const shown = weights.filter((_, i) => (i + 1) % Math.ceil(weights.length / 8) === 0);
    const left = kept(handles);
    if (listeners.after > listeners.before)
      left.push(`listeners ${listeners.before} became ${listeners.after}`);
    if (descriptors.after > descriptors.before) {
      left.push(`descriptors ${descriptors.before} became ${descriptors.after}`);
    }
    return {
      rows: [
        ["after transfers", "RSS", "heap", "external", "handles"],
        ...shown
          .map(
            ({ transfers, rssBytes, heapBytes, externalBytes, handles }) =>
              [
                transfers,
                formatMiB(rssBytes),
                formatMiB(heapBytes),
                formatMiB(externalBytes),
                handles,
              ] as const,
          )
          .map(([transfers, ...rest]) => [String(transfers), ...rest] as const),
        ["", "", "", "", ""],
        ["how they ended", "transfers", "", "", ""],
        ...endings,
      ],
      verdicts: [
        flat(
          "RSS",
          gain(weights, (weight) => weight.rssBytes),
          RSS_BYTES,
        ),
        flat(
          "the heap",
          gain(weights, (weight) => weight.heapBytes),
          HEAP_BYTES,
        ),
        never("every transfer ends as it is meant to", broken, transfers),
        never("every loan is given back", loans ? [`${loans} were not`] : [], transfers),
        never("handles, timers and listeners are back where they were", left, transfers),
      ],
    };
  },
};
