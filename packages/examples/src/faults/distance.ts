import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { median } from "../memory/bars.js";
import { type DistanceTask, FAR, FAR_CHANNELS, type Seconds } from "./distance/job.js";
import type { FaultKind, FaultOptions, FaultReport, Verdict } from "./fault-kind.js";

const MiB = 2 ** 20;
const BAR = 0.8;
const PROGRAM = fileURLToPath(new URL("./distance/program.js", import.meta.url));

/** Makes the loopback of a namespace as long as that, where the kernel has netem. */
const LONG_LOOPBACK = [
  "ip link set lo up",
  `tc qdisc add dev lo root netem delay ${FAR.delayMs}ms loss ${100 / FAR.lossOneIn}% rate ${(FAR.bytesPerSecond * 8) / 1e6}mbit limit 20000`,
].join(" && ");

const hasNetem = (): boolean => spawnSync("unshare", ["--net", "sh", "-c", LONG_LOOPBACK]).status === 0;

/** Runs the rounds, and gives what each took. */
function race(task: DistanceTask, say: FaultOptions["say"]): Promise<Seconds[]> {
  const args = [PROGRAM, JSON.stringify(task)];
  const stdio = ["ignore", "inherit", "inherit", "ipc"] as const;
  const child =
    task.line === "proxy"
      ? spawn(process.execPath, args, { stdio: [...stdio] })
      : spawn(
          "unshare",
          ["--net", "sh", "-c", `${LONG_LOOPBACK} && exec "$@"`, "sh", process.execPath, ...args],
          {
            stdio: [...stdio],
          },
        );
  const rounds: Seconds[] = [];
  child.on("message", (message) => {
    const seconds = message as Seconds;
    rounds.push(seconds);
    say(`round ${rounds.length}: a bare stream took ${seconds.bare.toFixed(2)} s`);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) =>
      rounds.length === task.rounds ? resolve(rounds) : reject(new Error(`the far ends ended with ${code}`)),
    );
  });
}

async function measure({ seed, count, scratch, say }: FaultOptions): Promise<FaultReport> {
  const line = hasNetem() ? "kernel" : "proxy";
  // A sample is one round of what is just long enough for what a transfer begins and ends with not to matter: HTTP, whose
  // requests grow with what it learns of the line, takes longer for that. Under the kernel's losses TCP itself moves a
  // fraction of what the line could.
  const whole = count === undefined;
  const channels = FAR_CHANNELS.filter((channel) => whole || channel !== "http");
  const bytes = (line === "kernel" ? 16 : whole ? 96 : 32) * MiB;
  const rounds = await race({ seed, channels, rounds: whole ? 3 : 1, bytes, scratch, line }, say);
  const ratio = (channel: (typeof FAR_CHANNELS)[number]): number =>
    median(rounds.map(({ bare, channels }) => bare / channels[channel]!));
  const rate = (seconds: number[]): string => (bytes / median(seconds) / 1e6).toFixed(2);
  const verdict = (channel: (typeof FAR_CHANNELS)[number]): Verdict => ({
    promise: `far away, ${channel} moves at least ${BAR} of what a bare stream does`,
    kept: ratio(channel) >= BAR,
    figures: ratio(channel).toFixed(2),
  });
  return {
    rows: [
      [`through the line (${line === "kernel" ? "netem" : "a proxy"})`, "MB/s", "of bare TCP"],
      ["bare TCP", rate(rounds.map(({ bare }) => bare)), ""],
      ...channels.map(
        (channel) =>
          [
            channel,
            rate(rounds.map(({ channels }) => channels[channel]!)),
            ratio(channel).toFixed(2),
          ] as const,
      ),
    ],
    verdicts: channels.map(verdict),
  };
}

export const distance: FaultKind = {
  name: "distance",
  about: "a line of 100 ms there and back, 8 MB/s and one packet in a hundred lost, beside a bare stream",
  run: measure,
};
