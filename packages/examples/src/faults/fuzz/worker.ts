import { subscribe } from "node:diagnostics_channel";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Counts } from "../counts.js";
import { Draws } from "../draws.js";
import { sideBySide } from "../side-by-side.js";
import type { Frame } from "./frame.js";
import type { WorkerReport, WorkerTask } from "./job.js";
import { mutate } from "./mutation.js";
import { samples } from "./samples.js";
import { leftoversOf, record, recordArtifact, type Script } from "./scripts.js";
import { strays, suffer, VICTIMS, type VictimName } from "./victim.js";

// One process of fuzzing: runs the cases that it is told, and says what came of them. If it crashes, that is a finding.

/** Cases under way at once: most of a case is waiting for the next turn. */
const WIDTH = 24;
/** Files cost more than memory: so many cases a case with one. */
const FILES_ONE_IN = 40;
const HANG_MS = 60_000;
/** Samples of several chunks that are also sent to somebody who has the first of them. */
const RESUMED: ReadonlySet<string> = new Set(["tiny", "chunks", "file"]);

const task: WorkerTask = JSON.parse(process.argv[2]!);
const codes = new Counts();
const victims = new Counts();
const broken: string[] = [];
let peakRss = 0;
let done = 0;

const report = (over: boolean): void => {
  const message: WorkerReport = {
    cases: done,
    codes: codes.rows(),
    victims: victims.rows(),
    broken,
    peakRss,
    over,
  };
  process.send!(message);
};

const running = new Map<number, number>();
const underWay = (): string => `with cases ${[...running.keys()].join(", ")} under way`;
for (const event of ["unhandledRejection", "uncaughtException"] as const) {
  process.on(event, (error: unknown) => {
    broken.push(`${event} ${underWay()}: ${(error as Error)?.stack ?? String(error)}`);
  });
}
subscribe("tensorwire:transfer:end", (message) => {
  const { loans } = message as { readonly loans: number };
  if (loans) broken.push(`${loans} loans were not given back, ${underWay()}`);
});

async function allScripts(): Promise<Record<"sender" | "receiver" | "artifact", Script[]>> {
  const scripts = { sender: [] as Script[], receiver: [] as Script[], artifact: [] as Script[] };
  for (const sample of await samples(task.scratch)) {
    const once = await record(sample);
    const recordings = [once];
    if (sample.name === "tiny") recordings.push(await record(sample, 2));
    if (RESUMED.has(sample.name)) {
      for (const sameVersion of [true, false]) {
        recordings.push(await record(sample, 1, leftoversOf(once, 1, sameVersion)));
      }
    }
    scripts.sender.push(...recordings.map(({ sender }) => sender));
    scripts.receiver.push(...recordings.map(({ receiver }) => receiver));
    scripts.artifact.push(await recordArtifact(sample, task.scratch));
  }
  return scripts;
}

const scripts = await allScripts();
const everything: Frame[] = Object.values(scripts).flatMap((list) => list.flatMap(({ frames }) => frames));
const folder = join(task.scratch, "files");
mkdirSync(folder);

/** What a victim can make something of. */
function scriptsFor(victim: VictimName): Script[] {
  switch (victim) {
    case "sender":
      return scripts.receiver;
    case "one-way":
    case "artifact":
      return scripts.artifact;
    case "receiver":
      return scripts.sender;
    default:
      return scripts.sender.filter(({ leftovers }) => !leftovers);
  }
}

async function runCase(number: number): Promise<void> {
  const draws = new Draws(task.seed, number);
  const drawn = draws.pick([
    "receiver",
    "receiver",
    "one-way",
    "artifact",
    "iterator",
    "sender",
    "sender",
  ] as const);
  const victim = draws.oneIn(FILES_ONE_IN) ? "file" : drawn;
  const script = draws.pick(scriptsFor(victim));
  const frames = mutate(script.frames, draws, everything);
  running.set(number, performance.now());
  const fate = await suffer(victim, script, frames, draws, join(folder, String(number)));
  running.delete(number);
  for (const code of fate.codes) codes.add(code);
  for (const what of fate.broken) broken.push(`case ${number} (${victim}, ${script.name}): ${what}`);
  victims.add(victim);
  done++;
}

/** Scripts that nobody has changed are accepted: else nothing would be learnt from those that somebody has. */
async function checkUnchanged(): Promise<void> {
  for (const victim of VICTIMS) {
    for (const script of scriptsFor(victim)) {
      const { codes, broken: wrong } = await suffer(
        victim,
        script,
        script.frames,
        new Draws(1),
        join(folder, "base"),
      );
      if (wrong.length || codes.some((code) => code !== "done")) {
        broken.push(`unchanged (${victim}, ${script.name}): ${codes} ${wrong}`);
      }
    }
  }
}

const watch = setInterval(() => {
  peakRss = Math.max(peakRss, process.memoryUsage.rss());
  for (const [number, since] of running) {
    if (performance.now() - since < HANG_MS) continue;
    broken.push(`case ${number} hangs`);
    running.delete(number);
  }
  report(false);
}, 500);

await checkUnchanged();
if (broken.length === 0) await sideBySide({ from: task.from, end: ends() }, WIDTH, runCase);
// What the cases have changed of what they share would show here.
if (broken.length === 0) await checkUnchanged();
clearInterval(watch);
const left = await strays(folder);
if (left.length) broken.push(`files that nobody was to leave: ${left.slice(0, 5)}`);
peakRss = Math.max(peakRss, process.memoryUsage.rss());
report(true);
process.disconnect();

function ends(): () => boolean {
  let next = task.from;
  return () => next++ >= task.end;
}
