import { fork } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatMiB } from "../model/byte-size.js";
import { Counts } from "./counts.js";
import { type FaultKind, type FaultOptions, type FaultReport, never } from "./fault-kind.js";
import type { WorkerReport, WorkerTask } from "./fuzz/job.js";

const USUAL = 1_000_000;
/** A process takes this many, and then the next one begins: what one keeps shows in its memory. */
const BATCH = 50_000;
const MiB = 2 ** 20;
/** Node, the library and the collected garbage of tens of thousands of transfers; no script's claim comes on top. */
const BUDGET_BYTES = 400 * MiB;
const PROGRAM = fileURLToPath(new URL("./fuzz/worker.js", import.meta.url));

/** Everything that the processes have said. */
class Findings {
  readonly codes = new Counts();
  readonly victims = new Counts();
  readonly broken: string[] = [];
  peakRss = 0;
  cases = 0;

  take({ codes, victims, broken, peakRss, cases }: WorkerReport): void {
    this.codes.merge(codes);
    this.victims.merge(victims);
    this.broken.push(...broken);
    this.peakRss = Math.max(this.peakRss, peakRss);
    this.cases += cases;
  }
}

/** Runs one process to its end. */
function runBatch(task: WorkerTask): Promise<WorkerReport> {
  const child = fork(PROGRAM, [JSON.stringify(task)], { execArgv: [] });
  let latest: WorkerReport | undefined;
  child.on("message", (report) => {
    latest = report as WorkerReport;
  });
  return new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      if (latest?.over) return resolve(latest);
      const crash = `a process ended with ${signal ?? code} in cases ${task.from} to ${task.end}, after ${latest?.cases ?? 0}`;
      const nothing = { cases: 0, codes: [], victims: [], peakRss: 0, over: true };
      resolve({ ...nothing, ...latest, broken: [...(latest?.broken ?? []), crash] });
    });
  });
}

async function fuzz({ seed, from, count, seconds, scratch, say }: FaultOptions): Promise<Findings> {
  const findings = new Findings();
  const started = performance.now();
  const end = seconds === undefined ? from + (count ?? USUAL) : Number.POSITIVE_INFINITY;
  const width = availableParallelism();
  // In time, a batch is what a process does in a fraction of it.
  const size = Math.min(BATCH, seconds === undefined ? Math.ceil((end - from) / width) : 2000);
  let next = from;
  const lane = async (): Promise<void> => {
    while (next < end && !(seconds !== undefined && performance.now() - started > seconds * 1000)) {
      const task = {
        seed,
        from: next,
        end: Math.min(end, next + size),
        scratch: join(scratch, String(next)),
      };
      next = task.end;
      await mkdir(task.scratch);
      const batch = await runBatch(task);
      findings.take(batch);
      for (const what of batch.broken) say(what);
      const rate = findings.cases / ((performance.now() - started) / 1000);
      say(`${findings.cases} cases, ${Math.round(rate)} a second, ${findings.broken.length} findings`);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return findings;
}

export const fuzzing: FaultKind = {
  name: "fuzz",
  about: "sequences of frames and manifests with fields, lengths, order, counts and members changed",
  async run(options): Promise<FaultReport> {
    const started = performance.now();
    const { broken, cases, codes, victims, peakRss } = await fuzz(options);
    const rate = Math.round(cases / ((performance.now() - started) / 1000));
    const within = peakRss <= BUDGET_BYTES;
    return {
      rows: [
        ["cases", cases],
        ["cases a second", rate],
        ["", ""],
        ["who heard them", "cases"],
        ...victims.rows(),
        ["", ""],
        ["what came of it", "transfers"],
        ...codes.rows(),
      ],
      verdicts: [
        never(
          "no crash, no hang, no unhandled rejection, no loan kept, no wrong model accepted",
          broken,
          cases,
        ),
        {
          promise: "memory stays within its budget",
          kept: within,
          figures: `${formatMiB(peakRss)} of at most ${formatMiB(BUDGET_BYTES)}`,
        },
      ],
    };
  },
};
