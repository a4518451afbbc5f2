import { spawnSync } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { fileURLToPath } from "node:url";
import type { FloatDType } from "@tensorwire/core";
import { Command } from "commander";
import { median } from "../memory/bars.js";
import { CODEC_CASES, type CodecCase } from "./codec-cases.js";
import { CHUNK_BYTES, STRIDE_ROOM } from "./codec-chunks.js";
import { type CaseResult, contenders, type Effort, measure } from "./codec-measurement.js";
import { normalMemory, pagesInUse, touchedMemory } from "./codec-memory.js";
import { codecTable, FOOTNOTE, judgements } from "./codec-table.js";
import { copySpeedOf } from "./copy-threads.js";

const FULL = { bytes: 64 * 2 ** 20, runs: 9, portableRuns: 3, portableChunks: 2, copyMilliseconds: 500 };
/** Enough to see that everything runs; its figures mean little, and are not judged. */
const QUICK = { bytes: 8 * 2 ** 20, runs: 1, portableRuns: 1, portableChunks: 1, copyMilliseconds: 20 };

interface Arguments {
  readonly quick?: true;
  readonly json?: true;
  readonly isa?: string;
  readonly codec?: string;
}

const program = new Command("codec")
  .description("The speed of every codec beside memcpy's, and the size of what it makes.")
  .option("--quick", "a glance: little memory, one run, no bars")
  .option("--json", "print one object instead of the table")
  .option("--isa <list>", "instruction sets, or portable (default: all of this processor)")
  .option("--codec <list>", "codecs by name (default: all)");

function chosenCases(list: string | undefined): readonly CodecCase[] {
  if (list === undefined) return CODEC_CASES;
  const names = list.split(",");
  const unknown = names.find((name) => CODEC_CASES.every(({ spec }) => spec.name !== name));
  if (unknown !== undefined) program.error(`there is no codec ${unknown}`);
  return CODEC_CASES.filter(({ spec }) => names.includes(spec.name));
}

async function run(
  { isa, codec }: Arguments,
  { bytes, ...effort }: Effort & { bytes: number },
): Promise<CaseResult[]> {
  const cases = chosenCases(codec);
  const among = contenders(isa?.split(","));
  const room = bytes + (bytes / CHUNK_BYTES) * STRIDE_ROOM;
  const areas = { payload: touchedMemory(room), packed: touchedMemory(room), target: touchedMemory(room) };
  const sources: Partial<Record<FloatDType, Uint8Array>> = {};
  const results: CaseResult[] = [];
  for (const given of cases) {
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${given.label} …` : "");
    if (sources[given.dtype] === undefined) sources[given.dtype] = normalMemory(bytes, given.dtype);
    results.push(await measure(given, sources[given.dtype]!, areas, among, effort));
  }
  process.stderr.write(process.stderr.isTTY ? "\r\x1b[K" : "");
  return results;
}

async function main(): Promise<void> {
  const options = program.parse().opts<Arguments>();
  const effort = options.quick ? QUICK : FULL;
  const results = await run(options, effort);
  const copies = {
    one: await copySpeedOf(1, effort.bytes, effort.copyMilliseconds),
    two: await copySpeedOf(2, effort.bytes, effort.copyMilliseconds),
  };
  const memcpy = median(results.flatMap(({ rows }) => rows.map((row) => row.memcpy)));
  const machine = {
    processor: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    node: process.versions.node,
    pages: pagesInUse(),
    threads: Number(process.env.UV_THREADPOOL_SIZE),
  };
  const judged = options.quick ? [] : judgements(results);
  if (options.json) {
    console.log(JSON.stringify({ machine, memcpy, copies, results, judgements: judged }, undefined, 2));
  } else {
    const { processor, cores, node, pages } = machine;
    console.log(
      `${processor}, ${cores} cores, Node ${node}; pages of ${pages}; memcpy ${memcpy.toFixed(2)} GB/s;\n` +
        `two threads that copy at the same time copy ${(copies.two / copies.one).toFixed(2)}x what one does\n`,
    );
    console.log(`${codecTable(results)}\n\n${FOOTNOTE}`);
    const failed = judged.filter(({ pass }) => !pass);
    if (judged.length > 0) {
      const summary = `${judged.length - failed.length} of ${judged.length} bars are met`;
      console.log(["", summary, ...failed.map(({ line }) => line)].join("\n"));
    }
  }
  if (judged.some(({ pass }) => !pass)) process.exitCode = 1;
}

// libuv reads how many threads it may have when the first job comes, which is before any of this: the process starts
// again with two.
if (process.env.UV_THREADPOOL_SIZE === "2") await main();
else {
  const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: "inherit",
    env: { ...process.env, UV_THREADPOOL_SIZE: "2" },
  });
  process.exitCode = status ?? 1;
}
