import { writeFile } from "node:fs/promises";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { COMPARED, EXACT, JUDGED, labelOf } from "./arrangement.js";
import { writeInto } from "./page.js";
import { accuracyPlot } from "./plot.js";
import { accuracyTable } from "./table.js";
import { runTrials } from "./trials.js";
import { MOST_POINTS, verdicts } from "./verdict.js";

interface Arguments {
  readonly rounds: number;
  readonly seeds: readonly number[];
  readonly jobs: number;
  readonly only?: readonly string[];
  readonly write: boolean;
}

const DOCS = new URL("../../../../docs/", import.meta.url);
const PLOT = fileURLToPath(new URL("federated.svg", DOCS));
const PAGE = fileURLToPath(new URL("guides/federated.md", DOCS));

const number = (text: string): number => {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError("a whole number, from 1 on");
  return Number(text);
};
const numbers = (text: string): number[] => text.split(",").map(number);
const names = (text: string): string[] => text.split(",");

const program = new Command("bench:accuracy")
  .description(
    "Trains models in federations that differ in nothing but how models travel, and compares them.",
  )
  .option("--rounds <n>", "of each", number, 8)
  .option("--seeds <list>", "one federation for each", numbers, [1, 2, 3])
  .option("--jobs <n>", "federations at a time, a core each", number, 1)
  .option("--only <codecs>", "some of them, beside none", names)
  .option("--no-write", "leave the plot and the table of docs/ as they are");

async function main(): Promise<number> {
  const { rounds, seeds, jobs, only, write }: Arguments = program.parse().opts();
  const arrangements = [...JUDGED, ...COMPARED].filter(({ codec }) => !only || only.includes(codec));
  const outcomes = await runTrials([EXACT, ...arrangements], {
    ...{ rounds, seeds, jobs },
    onTrial: (trial, { accuracy }) => {
      const curve = accuracy.map((each) => (100 * each).toFixed(1)).join(" ");
      console.log(`${labelOf(trial)}, seed ${trial.seed}: ${curve}`);
    },
  });
  console.log(`\nAfter round ${rounds}, seeds ${seeds.join(", ")}:\n\n${accuracyTable(outcomes)}\n`);
  if (write) {
    await writeFile(PLOT, await accuracyPlot(outcomes));
    if (!(await writeInto(PAGE, "bench:accuracy", accuracyTable(outcomes))))
      throw new Error(`${PAGE} has no place for the table, between its two comments`);
    for (const path of [PLOT, PAGE]) console.log(`Wrote ${relative(process.cwd(), path)}`);
  }
  const found = verdicts(outcomes);
  for (const { what, points, pass } of found) {
    const words = `${points.toFixed(2)} percentage points from none, at most ${MOST_POINTS}`;
    console.log(`${pass ? "PASS" : "FAIL"}  ${what}: ${words}`);
  }
  return found.every(({ pass }) => pass) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
