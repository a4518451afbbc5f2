import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ProgressEvent } from "@tensorwire/stream";
import { arrangementName, arrangements } from "../arrangement.js";
import { Draws } from "../draws.js";
import { type Ending, exchange } from "../exchange.js";
import { never } from "../fault-kind.js";
import { CODECS, codecName, writeModel } from "../models.js";
import { enough, sideBySide } from "../side-by-side.js";
import type { DiskReport, DiskTask } from "./job.js";
import { DISK_BYTES, MISHAPS, type Mishap, type Place } from "./mishap.js";
import { LARGE } from "./place.js";
import { limitedFile } from "./size-limit.js";

// A process that may mount what it likes: nobody else sees it, and all of it is gone with the process.

const task: DiskTask = JSON.parse(process.argv[2]!);
const broken = { codes: [] as string[], lost: [] as string[], later: [] as string[] };
const seen = new Map<string, { cases: number; codes: Set<string>; resumed: number }>();
let cases = 0;

const WINDOW = { windowBytes: 512 * 1024 };
/** So slow that something can happen in the midst of it. */
const RATE = { maxBytesPerSecond: 24 * 2 ** 20 };
/** A transfer takes less than a second. A quarter of it passes wherever an end waits that nobody has come to. */
const PATIENCE_MS = 24_000;
/** Each on a disk of its own, and most of the time waiting for its throttled transfer and for last words. */
const WIDTH = 3;
/** What comes is to be what was sent. */
const EXACT = CODECS.filter(({ codec }) => codec === "none" || codec === "lossless");

async function runCase(number: number): Promise<void> {
  const draws = new Draws(task.seed, number);
  const possible = MISHAPS.filter(({ needsMount }) => task.mounts || !needsMount);
  // Each in its turn, so that few cases are some of each.
  const mishap = possible[number % possible.length]!;
  const arrangement = draws.pick(arrangements(undefined));
  const choice = draws.pick(EXACT);
  const scratch = join(task.scratch, String(number));
  const disk = join(scratch, "disk");
  await mkdir(disk, { recursive: true });
  if (task.mounts) execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", disk]);
  const place: Place = {
    disk,
    source: join(scratch, "source.safetensors"),
    target: join(disk, "target", "model.safetensors"),
  };
  await mkdir(join(disk, "target"));
  const name = `case ${number} (${mishap.name}; ${arrangementName(arrangement)}, ${codecName(choice)})`;
  const attempt = (during?: () => void | Promise<void>) => {
    const midst = once(during);
    return exchange({
      arrangement,
      source: place.source,
      target: place.target,
      sending: { ...choice, ...WINDOW, ...RATE, ...(mishap.victim === "sender" && midst) },
      receiving: { ...WINDOW, ...(mishap.victim === "receiver" && midst) },
      scratch: task.scratch,
      certificate: undefined,
      patienceMs: PATIENCE_MS,
    });
  };
  try {
    await writeModel(place.source, LARGE);
    await mishap.before?.(place);
    const first = await attempt(mishap.during && (() => mishap.during!(place)));
    judge(name, mishap, first.sender, first.receiver);
    await look(name, mishap, place);
    await mishap.mend?.(place);
    const { sender, receiver } = await attempt();
    await lookAgain(name, place, sender, receiver);
    note(mishap, first[mishap.victim], receiver);
  } finally {
    if (task.mounts) execFileSync("umount", [disk]);
    await rm(scratch, { recursive: true });
  }
}

/** Calls `during` once, in the midst of a transfer; what it throws is thrown there. */
function once(during: (() => void | Promise<void>) | undefined) {
  if (!during) return {};
  let happened = false;
  const onProgress = ({ sourceBytes, totalBytes }: ProgressEvent): void => {
    if (happened || sourceBytes < totalBytes / 8) return;
    happened = true;
    void during();
  };
  return { onProgress };
}

function judge(name: string, { victim, codes }: Mishap, sender: Ending, receiver: Ending): void {
  cases++;
  const [at, other] = victim === "sender" ? [sender, receiver] : [receiver, sender];
  const said = `${victim} ${text(at)}, the other ${text(other)}`;
  if (at.is !== "failed" || !codes.includes(at.code)) broken.codes.push(`${name}: ${said}`);
  // The other end learns of it, in its own words or in the victim's.
  else if (other.is !== "failed" || (other.code === "PEER_FAILED" && other.peerCode !== at.code)) {
    broken.codes.push(`${name}: ${said}`);
  }
}

const text = (end: Ending): string =>
  end.is === "failed" ? `${end.code}${end.peerCode ? ` (${end.peerCode})` : ""}` : end.is;

/** Nothing is under the final name that was not there before. */
async function look(name: string, { leaves }: Mishap, { target }: Place): Promise<void> {
  const found = await readFile(target, "utf8").catch(() => undefined);
  if (found !== leaves) broken.lost.push(`${name}: ${found?.slice(0, 20)} under the final name`);
}

async function lookAgain(name: string, place: Place, sender: Ending, receiver: Ending): Promise<void> {
  if (sender.is !== "done" || receiver.is !== "done") {
    broken.later.push(`${name}: sender ${text(sender)}, receiver ${text(receiver)}`);
    return;
  }
  const [sent, got] = await Promise.all([readFile(place.source), readFile(place.target)]);
  if (!sent.equals(got)) broken.later.push(`${name}: another file than the source`);
  const strays = (await readdir(join(place.disk, "target"))).filter((file) => file !== "model.safetensors");
  if (strays.length) broken.later.push(`${name}: left ${strays}`);
}

function note({ name }: Mishap, victim: Ending, later: Ending): void {
  const row = seen.get(name) ?? { cases: 0, codes: new Set<string>(), resumed: 0 };
  seen.set(name, row);
  row.cases++;
  if (victim.is === "failed") row.codes.add(victim.code);
  if (later.is === "done" && later.summary.resumedBytes > 0) row.resumed++;
}

await sideBySide({ from: task.from, end: enough(task, task.count) }, WIDTH, runCase);
const limit = await limitedFile(task.scratch);
const rows = [...seen].map(([name, { cases, codes, resumed }]) => [
  name,
  cases,
  [...codes].join(", "),
  resumed,
]);
const report: DiskReport = {
  rows: [["what happens", "cases", "the victim's error", "gone on from there"], ...rows, ...limit.rows],
  verdicts: [
    never(
      "each has an error of its own, and both ends learn of it",
      [...broken.codes, ...limit.broken],
      cases,
    ),
    never("nothing is lost, and nothing appears that is not whole", broken.lost, cases),
    never("put right, the next attempt completes and leaves nothing beside it", broken.later, cases),
  ],
  skipped: [...limit.skipped, ...(task.mounts ? [] : ["needs unshare and mount"])],
};
process.send!(report);
process.disconnect();
