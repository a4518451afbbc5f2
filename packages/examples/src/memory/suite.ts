import { rm } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";
import type { SendOptions, Way } from "../ends/job.js";
import { type NoiseModelSize, writeNoiseModel } from "../model/noise-model.js";
import type { WayRuns } from "./bars.js";
import { type Measurement, measure } from "./measurement.js";
import { openScratch } from "./scratch.js";

export interface SuiteOptions {
  readonly size: NoiseModelSize;
  readonly options: SendOptions;
  readonly ways: readonly Way[];
  readonly runs: number;
  /** Told of every run when it is done. */
  readonly onRun?: (model: NoiseModelSize, run: Measurement) => void;
}

/** What every way took. The regular way runs with the whole model only: nobody doubts that it grows. */
export interface SuiteResult {
  readonly regular: readonly Measurement[];
  readonly container: WayRuns;
  readonly file: WayRuns;
}

const GiB = 2 ** 30;
/** What the streaming ways take at most, with all that runs beside them. */
const PROCESS_BYTES = 1 * GiB;

/** A model of a quarter of the size, largest tensor and all. */
export const quarter = ({ bytes, largestBytes }: NoiseModelSize): NoiseModelSize => ({
  bytes: bytes / 4,
  largestBytes: largestBytes / 4,
});

/** The model's file, that of a quarter, and what becomes of it. */
export const scratchBytes = (modelBytes: number): number => modelBytes * 2.25;

/** @returns undefined where there is no room for the model's file and what becomes of it. */
export async function runSuite(suite: SuiteOptions): Promise<SuiteResult | undefined> {
  const { bytes, largestBytes } = suite.size;
  const ways = suite.ways.filter((way) => way !== "regular" || fitsTwice(bytes));
  const memoryBytes = Math.max(2 * largestBytes, ways.includes("regular") ? 2 * bytes : 0) + PROCESS_BYTES;
  const scratch = await openScratch({ bytes: scratchBytes(bytes), memoryBytes });
  if (!scratch) return undefined;
  try {
    const streaming = ways.filter((way) => way !== "regular");
    const small = await runModel(suite, quarter(suite.size), streaming, scratch.path);
    const large = await runModel(suite, suite.size, ways, scratch.path);
    const runsOf = (way: "container" | "file"): WayRuns => ({ large: large[way], small: small[way] });
    return { regular: large.regular, container: runsOf("container"), file: runsOf("file") };
  } finally {
    scratch.remove();
  }
}

/** The regular way holds the model in the memory of both ends, beside its two files where those lie in memory too. */
const fitsTwice = (bytes: number): boolean => freemem() > 4 * bytes + 2 * GiB;

async function runModel(
  { options, runs, onRun }: SuiteOptions,
  size: NoiseModelSize,
  ways: readonly Way[],
  scratch: string,
): Promise<Record<Way, Measurement[]>> {
  const source = join(scratch, "source.safetensors");
  await writeNoiseModel(source, size);
  const results: Record<Way, Measurement[]> = { regular: [], container: [], file: [] };
  for (let run = 0; run < runs; run++) {
    for (const way of ways) {
      const measurement = await measure({ way, model: size, source, scratch, options });
      results[way].push(measurement);
      onRun?.(size, measurement);
    }
  }
  await rm(source);
  return results;
}
