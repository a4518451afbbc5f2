import { formatMiB } from "../model/byte-size.js";
import { median } from "./bars.js";
import type { Measurement } from "./measurement.js";

/** Runs of one way with one model, for a row an end. */
export interface TableRows {
  readonly name: string;
  readonly runs: readonly Measurement[];
}

const HEAD = ["", "end", "base", "peak", "growth", "anon", "caller's", "seconds"];

/** Medians of every run's figures, at most 80 columns wide. */
export function memoryTable(rows: readonly TableRows[]): string {
  const lines = [HEAD];
  for (const { name, runs } of rows) {
    for (const end of ["sender", "receiver"] as const) {
      const of = (pick: (run: Measurement["sender"]) => number): string =>
        formatMiB(median(runs.map((run) => pick(run[end]))));
      lines.push([
        end === "sender" ? name : "",
        end,
        of(({ base }) => base.rssBytes),
        of(({ peakBytes }) => peakBytes),
        of(({ base, peakBytes }) => peakBytes - base.rssBytes),
        of(({ peakAnonBytes }) => peakAnonBytes),
        of(({ callerBytes }) => callerBytes).replace(/^0\.0 MiB$/, "-"),
        end === "sender" ? median(runs.map(({ seconds }) => seconds)).toFixed(1) : "",
      ]);
    }
  }
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const pad = (cell: string, column: number): string =>
    column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return lines.map((line) => line.map(pad).join("  ").trimEnd()).join("\n");
}
