import { readdir } from "node:fs/promises";
import { hasProc } from "../memory/proc-status.js";
import { CROWD, type CrowdReport, crowd, type ServerRole } from "./budget.js";
import { type FaultKind, type FaultOptions, type FaultReport, never, type Verdict } from "./fault-kind.js";

const MiB = 2 ** 20;

/** What a process may take beside its budget and what one transfer leaves: allocators, sockets, handles. */
const MARGIN_BYTES = 48 * MiB;

const ROLES: readonly ServerRole[] = ["receive", "send"];

const mebibytes = (bytes: number): string => `${(bytes / MiB).toFixed(1)} MiB`;

function verdicts(role: ServerRole, report: CrowdReport, left: readonly string[]): Verdict[] {
  const { transfers, slow, budgetBytes } = CROWD;
  const { errors, fastFirst, baseBytes, peakBytes, mostReservedBytes, reservedBytes } = report;
  const bound = budgetBytes + baseBytes + MARGIN_BYTES;
  const who = `a process that ${role}s ${transfers} models`;
  return [
    never(`${who} finishes all of them, and leaves nothing else`, [...errors, ...left], transfers),
    {
      promise: `${who}: the fast ones are not held up by the slow`,
      kept: fastFirst === transfers - slow,
      figures: `${fastFirst} of ${transfers - slow} were over while every slow one still ran`,
    },
    {
      promise: `${who} stays within its budget, what one transfer leaves, and ${mebibytes(MARGIN_BYTES)}`,
      kept: peakBytes <= bound && mostReservedBytes <= budgetBytes && reservedBytes === 0,
      figures: `${mebibytes(peakBytes)} of ${mebibytes(bound)}`,
    },
  ];
}

async function run({ scratch, say }: FaultOptions): Promise<FaultReport> {
  if (!hasProc) return { rows: [], verdicts: [], skipped: ["needs /proc"] };
  const rows: FaultReport["rows"][number][] = [["", "base", "peak", "most reserved"]];
  const found: Verdict[] = [];
  for (const role of ROLES) {
    say(`a process that ${role}s ${CROWD.transfers} models, ${CROWD.slow} of which stand still half way`);
    const report = await crowd(CROWD, role, scratch);
    const { baseBytes, peakBytes, mostReservedBytes } = report;
    rows.push([role, mebibytes(baseBytes), mebibytes(peakBytes), mebibytes(mostReservedBytes)]);
    const left = (await readdir(scratch)).filter((name) => name !== "source.safetensors");
    found.push(...verdicts(role, report, left));
  }
  return { rows, verdicts: found };
}

/** Always whole: fewer transfers would want less than the budget. */
export const crowds: FaultKind = {
  name: "budget",
  about: `${CROWD.transfers} transfers at once in one process, half of them slow, in a budget of ${CROWD.budgetBytes / MiB} MiB`,
  run,
};
