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
import { record, recordArtifact, type Script } from "./scripts.js";
import { strays, suffer, VICTIMS, type VictimName } from "./victim.js";

// One process of fuzzing: runs the cases that it is told, and says what came of them. If it crashes, that is a finding.

/** Cases under way at once: most of a case is waiting for the next turn. */
const WIDTH = 24;
/** Files cost more than memory: so many cases a case with one. */
const FILES_ONE_IN = 40;
const HANG_MS = 60_000;

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
    for (const transfers of sample.name === "tiny" ? [1, 2] : [1]) {
      const { sender, receiver } = await record(sample, transfers);
      scripts.sender.push(sender);
      scripts.receiver.push(receiver);
    }
    scripts.artifact.push(await recordArtifact(sample, task.scratch));
  }
  return scripts;
}

const scripts = await allScripts();
const everything: Frame[] = Object.values(scripts).flatMap((list) => list.flatMap(({ frames }) => frames));
const folder = join(task.scratch, "files");
mkdirSync(folder);

function scriptFor(victim: VictimName, draws: Draws): Script {
  if (victim === "sender") return draws.pick(scripts.receiver);
  return draws.pick(victim === "one-way" ? scripts.artifact : scripts.sender);
}

async function runCase(number: number): Promise<void> {
  const draws = new Draws(task.seed, number);
  const drawn = draws.pick(["receiver", "receiver", "one-way", "iterator", "sender", "sender"] as const);
  const victim = draws.oneIn(FILES_ONE_IN) ? "file" : drawn;
  const script = scriptFor(victim, draws);
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
    const all =
      victim === "sender" ? scripts.receiver : victim === "one-way" ? scripts.artifact : scripts.sender;
    for (const script of all) {
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
