import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { openScratch } from "../memory/scratch.js";
import { corruption } from "./corruption.js";
import { crowds } from "./crowds.js";
import { disk } from "./disk.js";
import { distance } from "./distance.js";
import { kills } from "./kills.js";
import { names } from "./names.js";
import { soak } from "./soak.js";
import { fuzzing } from "./fuzzing.js";
import type { FaultKind, FaultReport } from "./fault-kind.js";
import { table } from "./table.js";

const KINDS: readonly FaultKind[] = [corruption, fuzzing, disk, crowds, distance, soak, kills, names];

interface Arguments {
  readonly seed: number;
  readonly count?: number;
  readonly seconds?: number;
  readonly from: number;
  readonly only: readonly FaultKind[];
}

const MiB = 2 ** 20;
const SCRATCH = { bytes: 1024 * MiB, memoryBytes: 2048 * MiB };

const number = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("a whole number");
  return Number(text);
};

const kinds = (text: string): readonly FaultKind[] =>
  text.split(",").map((name) => {
    const found = KINDS.find((kind) => kind.name === name);
    if (!found) throw new InvalidArgumentError(`some of ${KINDS.map((kind) => kind.name).join(",")}`);
    return found;
  });

const program = new Command("test:faults")
  .description("What may go wrong goes wrong, many times over, and every promise is looked at.")
  .option("--seed <n>", "of everything that chance decides", number, 20260504)
  .option("--count <n>", "cases of each kind (default: each kind's own)", number)
  .option("--seconds <n>", "for so long instead, of kinds that can", number)
  .option("--from <n>", "the first case: with --count 1, one that failed", number, 0)
  .option("--only <kinds>", "some of them, with commas", kinds, KINDS)
  .addHelpText("after", `\nKinds:\n${table(KINDS.map(({ name, about }) => [name, about]))}`);

/** Nothing may fail where nobody looks. */
const unhandled: string[] = [];
for (const event of ["unhandledRejection", "uncaughtException"] as const) {
  process.on(event, (error: unknown) => {
    unhandled.push(`${event}: ${(error as Error)?.stack ?? String(error)}`);
  });
}

function print({ name }: FaultKind, { rows, verdicts, skipped = [] }: FaultReport, seconds: number): void {
  console.log(`\n${name}, ${seconds.toFixed(1)} s\n`);
  console.log(`${table(rows)}\n`);
  for (const what of skipped) console.log(`SKIPPED: ${what}`);
  for (const { promise, kept, figures } of verdicts) {
    console.log(`${kept ? "PASS" : "FAIL"}  ${promise}: ${figures}`);
  }
}

async function main(): Promise<number> {
  const { only, ...options }: Arguments = program.parse().opts();
  const scratch = await openScratch(SCRATCH);
  if (!scratch) {
    console.log("SKIPPED: needs 1 GiB of disk");
    return 0;
  }
  console.log(`Faults with seed ${options.seed}: ${only.map(({ name }) => name).join(", ")}.`);
  let kept = true;
  for (const kind of only) {
    const started = performance.now();
    const folder = join(scratch.path, kind.name);
    await mkdir(folder);
    const say = (line: string): void => console.log(`  ${line}`);
    const report = await kind.run({ ...options, scratch: folder, say });
    print(kind, report, (performance.now() - started) / 1000);
    kept &&= report.verdicts.every((verdict) => verdict.kept);
  }
  for (const what of unhandled) console.log(`FAIL  nothing fails where nobody looks: ${what}`);
  scratch.remove();
  return kept && unhandled.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error);
  process.exitCode = 2;
}
