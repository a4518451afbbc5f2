import { formatMiB, formatSize } from "../model/byte-size.js";
import type { NoiseModelSize } from "../model/noise-model.js";
import type { Bar } from "./bars.js";
import type { Measurement } from "./measurement.js";
import { quarter, type SuiteResult } from "./suite.js";
import type { TableRows } from "./table.js";

/** What is said of a run when it is done. */
export function runLine({ bytes }: NoiseModelSize, { way, sender, receiver, seconds }: Measurement): string {
  const ends = `sender ${formatMiB(sender.peakBytes).padStart(10)}  receiver ${formatMiB(receiver.peakBytes).padStart(10)}`;
  return `  ${way.padEnd(9)} ${formatSize(bytes).padStart(8)}  ${ends}  ${seconds.toFixed(1)} s`;
}

export function tableRows({ regular, container, file }: SuiteResult, model: NoiseModelSize): TableRows[] {
  const whole = formatSize(model.bytes);
  const part = formatSize(quarter(model).bytes);
  return [
    { name: `regular ${whole}`, runs: regular },
    { name: `container ${whole}`, runs: container.large },
    { name: `container ${part}`, runs: container.small },
    { name: `file ${whole}`, runs: file.large },
    { name: `file ${part}`, runs: file.small },
  ].filter(({ runs }) => runs.length);
}

/** The run to draw: the one whose peaks are the median, if there is any. */
export function typical(runs: readonly Measurement[]): Measurement[] {
  const peak = ({ sender, receiver }: Measurement): number => sender.peakBytes + receiver.peakBytes;
  const sorted = [...runs].sort((a, b) => peak(a) - peak(b));
  return sorted.slice(sorted.length >> 1).slice(0, 1);
}

/** For JSON: thousands of samples are for the plot, and nothing to print. */
export const withoutSamples = (key: string, value: unknown): unknown =>
  key === "samples" ? undefined : value;

/** A line a bar, beside what was measured. */
export function barLines(bars: readonly Bar[]): string {
  const width = Math.max(...bars.map(({ name }) => name.length));
  return bars
    .map(({ name, bytes, limitBytes, pass }) => {
      const figures = `${formatMiB(bytes)} of at most ${formatSize(limitBytes)}`;
      return `${pass ? "PASS" : "FAIL"}  ${name.padEnd(width)}  ${figures}`;
    })
    .join("\n");
}
