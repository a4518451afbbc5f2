import { mkdir, writeFile } from "node:fs/promises";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import type { SendOptions } from "../ends/job.js";
import { formatMiB, parseBytes } from "../model/byte-size.js";
import { BAR_CODEC, BAR_WINDOW_BYTES, type Bar, median, wayBars } from "./bars.js";
import type { Measurement } from "./measurement.js";
import { memoryPlot } from "./plot.js";
import { hasProc } from "./proc-status.js";
import { quarter, runSuite, type SuiteResult } from "./suite.js";
import { barLines, memoryTable, type TableRows } from "./table.js";

interface Arguments {
  readonly size: number;
  readonly largest?: number;
  readonly codec: string;
  readonly window: number;
  readonly runs: number;
  readonly json?: true;
  readonly out: string;
}

const bytes = (text: string): number => {
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
};

const count = (text: string): number => {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError("a number of runs, from 1 to 99");
  return Number(text);
};

const PLOT = fileURLToPath(new URL("../../../../docs/memory.svg", import.meta.url));

const program = new Command("memory")
  .description(
    "Memory of both ends while a model moves, in the three ways: regular (one blob), container, file.",
  )
  .option("--size <bytes>", "of the model", bytes, 4 * 2 ** 30)
  .option("--largest <bytes>", "of its largest tensor (default: half the model)", bytes)
  .option("--codec <name>", "of the streaming ways", BAR_CODEC)
  .option("--window <bytes>", "of both ends", bytes, BAR_WINDOW_BYTES)
  .option("--runs <n>", "of each way; their medians count", count, 3)
  .option("--json", "print one object instead of the table")
  .option("--out <path>", "of the plot", PLOT);

async function main(): Promise<number> {
  const { size, largest, codec, window, runs, json, out }: Arguments = program.parse().opts();
  const say = json ? (): void => {} : (text: string): void => console.log(text);
  if (!hasProc) {
    console.log("SKIPPED: needs /proc");
    return 0;
  }
  const model = { bytes: size, largestBytes: largest ?? size / 2 };
  const options: SendOptions = { codec, windowBytes: window };
  say(`A model of ${formatMiB(model.bytes)}, its largest tensor of ${formatMiB(model.largestBytes)}, f32;`);
  say(`${codec} and a window of ${formatMiB(window)} where it streams; ${runs} runs of each way.\n`);
  const result = await runSuite({
    size: model,
    options,
    runs,
    onRun: ({ bytes }, { way, sender, receiver, seconds }) =>
      say(
        `  ${way.padEnd(9)} ${formatMiB(bytes).padStart(10)}  sender ${formatMiB(sender.peakBytes).padStart(10)}` +
          `  receiver ${formatMiB(receiver.peakBytes).padStart(10)}  ${seconds.toFixed(1)} s`,
      ),
  });
  if (!result) {
    console.log(`SKIPPED: needs ${formatMiB(2.25 * size)} of disk`);
    return 0;
  }
  const { container, file, regular } = result;
  const bars = [...wayBars("file", file), ...wayBars("container", container)];
  await mkdir(dirname(resolve(out)), { recursive: true });
  await writeFile(out, await memoryPlot([regular, container.large, file.large].flatMap(typical), size));
  if (json) console.log(JSON.stringify({ model, options, bars, result: withoutSamples(result) }));
  say(`\nMedians of ${runs} runs:\n`);
  say(memoryTable(tableRows(result, model.bytes)));
  if (!regular.length) say("\nregular: SKIPPED: needs memory for the model at both ends and for its files");
  say(
    "\nbase: after imports. anon: RssAnon, the peak without files. caller's: its one tensor, part of the peak.\n",
  );
  return verdict(bars, { codec, window }, say, out);
}

/** Exits with 1 where a bar is broken; the bars say nothing of other windows and codecs. */
function verdict(
  bars: readonly Bar[],
  { codec, window }: Pick<Arguments, "codec" | "window">,
  say: (text: string) => void,
  out: string,
): number {
  say(`Plot: ${relative(process.cwd(), out) || out}`);
  if (window > BAR_WINDOW_BYTES) {
    say(
      `The bars are for windows up to ${formatMiB(BAR_WINDOW_BYTES)}: no verdict for ${formatMiB(window)}, ${codec}.`,
    );
    return 0;
  }
  say(`\n${barLines(bars)}`);
  return bars.every(({ pass }) => pass) ? 0 : 1;
}

function tableRows({ regular, container, file }: SuiteResult, size: number): TableRows[] {
  const whole = formatMiB(size);
  const part = formatMiB(quarter({ bytes: size, largestBytes: 0 }).bytes);
  return [
    { name: `regular ${whole}`, runs: regular },
    { name: `container ${whole}`, runs: container.large },
    { name: `container ${part}`, runs: container.small },
    { name: `file ${whole}`, runs: file.large },
    { name: `file ${part}`, runs: file.small },
  ].filter(({ runs }) => runs.length);
}

/** The run to draw: the one whose peak is the median. */
function typical(runs: readonly Measurement[]): Measurement[] {
  const peaks = runs.map(({ sender, receiver }) => sender.peakBytes + receiver.peakBytes);
  const middle = median(peaks.length % 2 ? peaks : peaks.slice(1));
  const run = runs[peaks.indexOf(middle)];
  return run ? [run] : [];
}

/** Samples are for the plot: thousands of them are nothing to print. */
function withoutSamples(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, member) => (key === "samples" ? undefined : member)));
}

process.exitCode = await main();
