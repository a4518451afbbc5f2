import { subscribe } from "node:diagnostics_channel";
import { readdirSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCertificate } from "../certificate.js";
import { Counts } from "../counts.js";
import { Draws } from "../draws.js";
import { MIXED, writeModel } from "../models.js";
import type { SoakReport, SoakTask, Weight } from "./job.js";
import { transferOnce } from "./transfers.js";

// Thousands of transfers in one process, which is weighed now and then. Started with --expose-gc: what is left after that
// is what somebody keeps.

const task: SoakTask = JSON.parse(process.argv[2]!);
const SAMPLES = 40;
/** Side by side, as in a server. */
const WIDTH = 4;

const endings = new Counts();
const broken: string[] = [];
let loans = 0;
subscribe("tensorwire:transfer:end", (message) => {
  loans += (message as { readonly loans: number }).loans;
});
for (const event of ["unhandledRejection", "uncaughtException"] as const) {
  process.on(event, (error: unknown) => broken.push(`${event}: ${(error as Error)?.stack ?? String(error)}`));
}

/** Last words may take a second, and a machine be busy: what is still there after that long is kept by somebody. */
const CLOSING_MS = 10_000;

/** What keeps the process alive, by kind. */
function handles(): Record<string, number> {
  const counts = new Counts();
  for (const kind of process.getActiveResourcesInfo()) counts.add(kind);
  return Object.fromEntries(counts.rows());
}

/** Listeners that transfers could leave on what outlives them. */
const listeners = (): number =>
  process.eventNames().reduce((sum, event) => sum + process.listenerCount(event), 0);

const descriptors = (): number => {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
};

async function weigh(transfers: number): Promise<Weight> {
  // Twice, and a turn between: what finalizers let go goes with the second.
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.();
    await sleep(20);
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  const active = process.getActiveResourcesInfo().length;
  return { transfers, rssBytes: rss, heapBytes: heapUsed, externalBytes: external, handles: active };
}

const scratch = join(task.scratch, "files");
await mkdir(scratch);
const source = join(task.scratch, "source.safetensors");
await writeModel(source, MIXED);
const place = { scratch, source, certificate: makeCertificate(task.scratch) };

// They are made when they are first written to, which is nobody's leak.
for (const stream of [process.stdout, process.stderr]) stream.write("");
await sleep(300);
const before = { handles: handles(), listeners: listeners(), descriptors: descriptors() };
const weights: Weight[] = [];
const step = Math.max(1, Math.floor(task.count / SAMPLES));
for (let done = 0; done < task.count; ) {
  const end = Math.min(task.count, done + step);
  const numbers = Array.from({ length: end - done }, (_, i) => task.from + done + i);
  await Promise.all(
    Array.from({ length: WIDTH }, async () => {
      for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) {
        const { fate, code, asMeant } = await transferOnce(new Draws(task.seed, number), number, place);
        endings.add(`${fate}: ${code}`);
        if (!asMeant) broken.push(`transfer ${number} (${fate}) came to ${code}`);
      }
    }),
  );
  done = end;
  weights.push(await weigh(done));
}
const left = await readdir(scratch);
if (left.length) broken.push(`files that nobody was to leave: ${left.slice(0, 5)}`);
const total = (of: Record<string, number>): number =>
  Object.values(of).reduce((sum, count) => sum + count, 0);
for (let waited = 0; waited < CLOSING_MS && total(handles()) > total(before.handles); waited += 100) {
  await sleep(100);
}
const after = { handles: handles(), listeners: listeners(), descriptors: descriptors() };
const report: SoakReport = {
  weights,
  endings: endings.rows(),
  broken,
  loans,
  handles: { before: before.handles, after: after.handles },
  listeners: { before: before.listeners, after: after.listeners },
  descriptors: { before: before.descriptors, after: after.descriptors },
};
process.send!(report);
process.disconnect();
