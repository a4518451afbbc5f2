import { readdir, rm } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { writeInto } from "../accuracy/page.js";
import { openScratch } from "../memory/scratch.js";
import { describeCommit, describeMachine, machineText } from "./machine.js";
import { type Skip, type SectionRecord, writeRecord } from "./record.js";
import { FOLDER, headline, writeReport } from "./report.js";
import type { Section } from "./section.js";
import { SECTIONS } from "./sections.js";

interface Arguments {
  readonly only?: string;
  readonly quick?: boolean;
  readonly render?: true;
  readonly out: string;
}

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const DOCS = join(ROOT, "docs");
const MiB = 2 ** 20;

const program = new Command("bench")
  .description("Measures, and writes the page and the plots of docs/benchmarks from what it measured.")
  .option("--only <sections>", `some of ${SECTIONS.map(({ id }) => id).join(",")}`)
  .option("--quick", "a glance: small models, one run of each; nothing is judged")
  .option("--render", "measure nothing: write the page from the records")
  .option("--out <folder>", "where the page goes", DOCS);

function chosen(only: string | undefined): readonly Section[] {
  const ids = only?.split(",") ?? SECTIONS.map(({ id }) => id);
  const unknown = ids.find((id) => !SECTIONS.some((section) => section.id === id));
  if (unknown !== undefined)
    program.error(`there is no section ${unknown}; there are ${SECTIONS.map(({ id }) => id).join(", ")}`);
  return SECTIONS.filter(({ id }) => ids.includes(id));
}

async function measured(
  section: Section,
  scratch: string,
  quick: boolean,
  signal: AbortSignal,
): Promise<SectionRecord> {
  const skips: Skip[] = [];
  const began = performance.now();
  const start = {
    id: section.id,
    measured: new Date().toISOString(),
    commit: describeCommit(ROOT),
    machine: describeMachine(scratch),
    quick,
  };
  const end = () => ({ seconds: Math.round((performance.now() - began) / 100) / 10, skips });
  const context = {
    ...{ quick, scratch, signal },
    log: (line: string) => console.log(`  ${line}`),
    skip(what: string, why: string) {
      skips.push({ what, why });
      console.log(`  not measured: ${what}: ${why}`);
    },
  };
  try {
    const data = await section.measure(context);
    return { ...start, ...end(), data };
  } catch (error) {
    console.error(error);
    return { ...start, ...end(), failed: (error as Error).message };
  } finally {
    for (const name of await readdir(scratch)) await rm(join(scratch, name), { recursive: true });
  }
}

async function main(): Promise<number> {
  const { only, quick = false, render, out }: Arguments = program.parse().opts();
  const sections = chosen(only);
  let failed = false;
  if (!render) {
    const needs = quick
      ? { bytes: 64 * MiB, memoryBytes: 256 * MiB }
      : { bytes: 3072 * MiB, memoryBytes: 1024 * MiB };
    const scratch = await openScratch(needs);
    if (!scratch)
      throw new Error(`there is no room for the models: ${needs.bytes / MiB} MiB, in memory or on disk`);
    console.log(machineText(describeMachine(scratch.path)));
    // Processes under test do not outlive the program, however it ends.
    const over = new AbortController();
    process.once("exit", () => over.abort());
    for (const section of sections) {
      console.log(`\n${section.title}`);
      const record = await measured(section, scratch.path, quick, over.signal);
      failed ||= record.failed !== undefined;
      await writeRecord(join(out, FOLDER), record);
      // After each: what is done stays done where a later one is interrupted.
      await writeReport(out, SECTIONS);
    }
    scratch.remove();
  }
  const verdicts = await writeReport(out, SECTIONS);
  const text = await headline(out, SECTIONS);
  if (text && resolve(out) === DOCS) await writeInto(join(ROOT, "README.md"), "bench", text);
  console.log("");
  for (const { what, found, bar, pass } of verdicts)
    console.log(`${pass === undefined ? "    " : pass ? "PASS" : "FAIL"}  ${what}: ${found}; ${bar}`);
  console.log(`Wrote ${relative(process.cwd(), resolve(out, "benchmarks.md"))}`);
  return failed || verdicts.some(({ pass }) => pass === false) ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
