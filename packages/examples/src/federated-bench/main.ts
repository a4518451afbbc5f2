import { rm } from "node:fs/promises";
import { cpus } from "node:os";
import { Command } from "commander";
import { hasProc } from "../memory/proc-status.js";
import { openScratch } from "../memory/scratch.js";
import { accuracyRows } from "./accuracy-rows.js";
import { aggregateRows, FULL, makeModel, memoryRows, QUICK, type Row, servingRows } from "./rows.js";

const KINDS = ["aggregate", "serving", "memory", "accuracy"] as const;
const GiB = 2 ** 30;

const program = new Command("federated")
  .description(
    "What a round costs a server: processor time of means and of serving, and memory. And what codecs cost it in accuracy.",
  )
  .option("--quick", "a glance: small models, one run, no bars")
  .option("--only <list>", `some of ${KINDS.join(",")}`)
  .option("--json", "print one object instead of the rows");

async function main(): Promise<number> {
  const { quick, only, json } = program.parse().opts<{ quick?: true; only?: string; json?: true }>();
  const chosen = only?.split(",") ?? KINDS;
  const unknown = chosen.find((kind) => !(KINDS as readonly string[]).includes(kind));
  if (unknown !== undefined) program.error(`there is no ${unknown}; there are ${KINDS.join(", ")}`);
  const size = quick ? QUICK : FULL;
  // The models, their artifacts, and the uploads at their most.
  const bytes = size.modelBytes * (1.5 + 0.15 * (size.clients + 4));
  const scratch = await openScratch({ bytes, memoryBytes: 2 * GiB });
  if (!scratch) {
    console.log(`SKIPPED: needs ${Math.ceil(bytes / GiB)} GiB of disk`);
    return 0;
  }
  const rows: Row[] = [];
  const add = (more: readonly Row[]): void => {
    rows.push(...more);
    if (!json) for (const row of more) console.log(lineOf(row, quick));
  };
  if (!json) console.log(`${cpus()[0]?.model}, Node ${process.versions.node}\n`);
  try {
    const { path } = scratch;
    const small = await makeModel(path, size.modelBytes / 4);
    if (chosen.includes("aggregate")) add(await aggregateRows(small, size));
    if (chosen.includes("serving")) add(await servingRows(path, small, size));
    if (chosen.includes("memory") && !hasProc) console.log("SKIPPED: needs /proc");
    else if (chosen.includes("memory")) {
      const large = await makeModel(path, size.modelBytes);
      await rm(large.path);
      add(await memoryRows(path, { large, small }, size));
    }
    if (chosen.includes("accuracy")) add(await accuracyRows(size));
  } finally {
    scratch.remove();
  }
  if (json) console.log(JSON.stringify({ rows }));
  return quick || rows.every(({ bar }) => bar?.pass !== false) ? 0 : 1;
}

function lineOf({ what, found, bar }: Row, quick: true | undefined): string {
  const verdict = !bar || quick ? "    " : bar.pass ? "PASS" : "FAIL";
  return `${verdict}  ${what}: ${found}${bar && !quick ? `; ${bar.text}` : ""}`;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error);
  process.exitCode = 2;
}
