import { mkdir, writeFile } from "node:fs/promises";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { type SendOptions, WAYS, type Way } from "../ends/job.js";
import { formatMiB, formatSize, parseBytes } from "../model/byte-size.js";
import type { NoiseModelSize } from "../model/noise-model.js";
import { BAR_CODEC, BAR_WINDOW_BYTES, wayBars } from "./bars.js";
import type { Measurement } from "./measurement.js";
import { memoryPlot } from "./plot.js";
import { hasProc } from "./proc-status.js";
import { barLines, runLine, tableRows, typical, withoutSamples } from "./report.js";
import { runSuite, scratchBytes } from "./suite.js";
import { memoryTable } from "./table.js";

interface Arguments {
  readonly size: number;
  readonly largest?: number;
  readonly codec: string;
  readonly window: number;
  readonly ways: readonly Way[];
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

const ways = (text: string): readonly Way[] => {
  const asked = text.split(",");
  const known = WAYS.filter((way) => asked.includes(way));
  if (known.length === asked.length) return known;
  throw new InvalidArgumentError(`some of ${WAYS.join(",")}`);
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
  .option("--ways <list>", "which of them", ways, WAYS)
  .option("--runs <n>", "of each way; their medians count", count, 3)
  .option("--json", "print one object instead of the table")
  .option("--out <path>", "of the plot", PLOT);

async function main(): Promise<number> {
  const { size, largest, codec, window, ways, runs, json, out }: Arguments = program.parse().opts();
  const say = json ? (): void => {} : (text: string): void => console.log(text);
  if (!hasProc) {
    // Memory is what /proc says; other systems say it otherwise, and count it otherwise.
    console.log("SKIPPED: needs /proc");
    return 0;
  }
  const model = { bytes: size, largestBytes: largest ?? size / 2 };
  const options: SendOptions = { codec, windowBytes: window };
  say(`A model of ${formatSize(model.bytes)}, its largest tensor of ${formatSize(model.largestBytes)}, f32;`);
  say(`${codec} and a window of ${formatSize(window)} where it streams; ${runs} runs of each way.\n`);
  const onRun = (of: NoiseModelSize, run: Measurement): void => say(runLine(of, run));
  const result = await runSuite({ size: model, options, ways, runs, onRun });
  if (!result) {
    console.log(`SKIPPED: needs ${formatMiB(scratchBytes(size))} of disk`);
    return 0;
  }
  const { container, file, regular } = result;
  const drawn = [regular, container.large, file.large].flatMap(typical);
  await mkdir(dirname(resolve(out)), { recursive: true });
  await writeFile(out, await memoryPlot(drawn, size));
  // The bars are for a window: another one takes what it takes.
  const bars =
    window <= BAR_WINDOW_BYTES ? [...wayBars("file", file), ...wayBars("container", container)] : [];
  if (json) console.log(JSON.stringify({ model, options, bars, result }, withoutSamples));
  say(`\nMedians of ${runs} runs:\n\n${memoryTable(tableRows(result, model))}\n`);
  if (ways.includes("regular") && !regular.length)
    say("regular: SKIPPED: needs memory for the model at both ends and for its files");
  say("base: after imports; growth: from there to the peak; caller's: its one tensor, part of the peak\n");
  say(`Plot: ${relative(process.cwd(), out) || out}\n`);
  if (!bars.length)
    say(`no verdict: the bars are for streams, and windows up to ${formatSize(BAR_WINDOW_BYTES)}`);
  else say(barLines(bars));
  return bars.every(({ pass }) => pass) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
