import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import { defaultBackend } from "@tensorwire/quant-native";
import { Command } from "commander";
import { median } from "../memory/bars.js";
import { formatSize, parseBytes } from "../model/byte-size.js";
import { BARE_WAYS } from "./bare-ways.js";
import { channelWays, INNER_WAYS, PULLED_WAYS } from "./channel-ways.js";
import { CHUNK_BYTES, type EndFigures, FRAME_BYTES, type WayJob } from "./way-job.js";

const WARM_UP = 48;
/** The bar: this much of what a bare socket moves. */
const BAR = { names: ["websocket", "http", "http, pulled"], ratio: 0.8 };
const BARE = "bare TCP";

/** One run of one way. */
interface Figures {
  readonly seconds: number;
  readonly senderCpu: number;
  /** None where both ends are one process. */
  readonly receiverCpu: number | undefined;
}

const program = fileURLToPath(new URL("./way-end.js", import.meta.url));

/** Runs one way once. */
class Race {
  readonly #ends = new Set<ChildProcess>();

  constructor(
    private readonly scratch: string,
    private readonly frames: number,
  ) {}

  async run(name: string): Promise<Figures> {
    if (name in INNER_WAYS) {
      const both = this.#end("both", name);
      const { seconds, cpuSeconds } = (await both()) as EndFigures;
      return { seconds, senderCpu: cpuSeconds, receiverCpu: undefined };
    }
    const [sending, receiving] = await (name === "pipe" ? this.#piped(name) : this.#apart(name));
    const [sent, received] = (await Promise.all([sending(), receiving()])) as [EndFigures, EndFigures];
    return { seconds: received.seconds, senderCpu: sent.cpuSeconds, receiverCpu: received.cpuSeconds };
  }

  async #apart(name: string): Promise<[Lines, Lines]> {
    if (name in PULLED_WAYS) {
      const sending = this.#end("send", name);
      const { address } = (await sending()) as { address: string };
      return [sending, this.#end("receive", name, { address })];
    }
    const receiving = this.#end("receive", name);
    const { address } = (await receiving()) as { address: string };
    return [this.#end("send", name, { address }), receiving];
  }

  /** Joined by a pipe of the system: what Node makes for its children is a socket. */
  async #piped(name: string): Promise<[Lines, Lines]> {
    const jobs = [this.#job("send", name), this.#job("receive", name)].map((job) => JSON.stringify(job));
    const line = '"$0" "$1" "$2" 3>&3 | "$0" "$1" "$3" 3>&4';
    const shell = spawn("/bin/sh", ["-c", line, process.execPath, program, ...jobs], {
      stdio: ["ignore", "ignore", "inherit", "pipe", "pipe"],
    });
    const receiving = lines(shell, 4);
    await receiving();
    return [lines(shell, 3), receiving];
  }

  #job(role: WayJob["role"], name: string): WayJob {
    return { role, name, scratch: this.scratch, frames: this.frames, warmUp: WARM_UP };
  }

  #end(role: WayJob["role"], name: string, more: Partial<WayJob> = {}): Lines {
    const job = JSON.stringify({ ...this.#job(role, name), ...more });
    // For `node --cpu-prof`: a profile of each end is written where it says.
    const flags = process.env.BENCH_FLAGS?.split(" ") ?? [];
    const child = spawn(process.execPath, [...flags, program, job], {
      stdio: ["ignore", "ignore", "inherit", "pipe"],
    });
    this.#ends.add(child.once("exit", () => this.#ends.delete(child)));
    return lines(child, 3);
  }

  /** After a failure: the other end would wait for ever. */
  close(): void {
    for (const end of this.#ends) end.kill();
  }
}

/** Gives what a process says next. */
type Lines = () => Promise<unknown>;

function lines(child: ChildProcess, descriptor: number): Lines {
  const iterator = createInterface(child.stdio[descriptor] as Readable)[Symbol.asyncIterator]();
  return async () => {
    const { value, done } = await iterator.next();
    if (!done) return JSON.parse(value);
    const [code, signal] = child.exitCode === null ? await once(child, "exit") : [child.exitCode];
    throw new Error(`an end of a way exited with ${signal ?? code}`);
  };
}

async function hashSeconds(frames: number): Promise<number> {
  const backend = defaultBackend();
  const payload = new Uint8Array(CHUNK_BYTES).map((_, i) => i * 31);
  for (let i = 0; i < WARM_UP; i++) await backend.hash(payload);
  const start = performance.now();
  for (let i = 0; i < frames; i++) await backend.hash(payload);
  return (performance.now() - start) / 1000;
}

function certificate(scratch: string): boolean {
  if (spawnSync("openssl", ["version"]).status !== 0) return false;
  const files = ["-keyout", join(scratch, "bench.key"), "-out", join(scratch, "bench.crt")];
  const subject = ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  execFileSync("openssl", ["req", "-x509", "-days", "2", ...key, ...subject, ...files], { stdio: "pipe" });
  return true;
}

const HEAD = ["", "GB/s", "of bare TCP", "sender CPU s/GB", "receiver CPU s/GB"];

function row(name: string, runs: readonly Figures[], bare: readonly Figures[], gigabytes: number): string[] {
  const ratios = runs.map(({ seconds }, i) => bare[i]!.seconds / seconds);
  const cpu = (of: (run: Figures) => number | undefined): string => {
    const figures = runs.map(of);
    return figures.includes(undefined) ? "(both)" : (median(figures as number[]) / gigabytes).toFixed(2);
  };
  return [
    name,
    (gigabytes / median(runs.map(({ seconds }) => seconds))).toFixed(2),
    `${median(ratios).toFixed(2)}  (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
    cpu(({ senderCpu }) => senderCpu),
    cpu(({ receiverCpu }) => receiverCpu),
  ];
}

async function main({
  bytes,
  rounds,
  only,
}: {
  bytes: number;
  rounds: number;
  only?: string;
}): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "tensorwire-bench-"));
  const frames = Math.max(1, Math.round(bytes / FRAME_BYTES));
  const race = new Race(scratch, frames);
  try {
    const gigabytes = (frames * FRAME_BYTES) / 1e9;
    const secure = certificate(scratch);
    const all = [
      ...Object.keys(BARE_WAYS),
      ...Object.keys(channelWays(scratch)),
      ...Object.keys(PULLED_WAYS),
      ...Object.keys(INNER_WAYS),
    ];
    const names = all
      .filter((name) => secure || !/tls|https/i.test(name))
      .filter((name) => !only || name === BARE || name === only);
    console.log(
      `Prebuilt frames of ${formatSize(CHUNK_BYTES)} chunks of none over loopback: ${formatSize(bytes)} a run, medians of` +
        ` ${rounds} interleaved runs; Node ${process.versions.node}, ${availableParallelism()} cores${secure ? "" : "; no TLS without openssl"}`,
    );
    const runs = new Map(names.map((name) => [name, [] as Figures[]]));
    for (let round = 0; round < rounds; round++) {
      // In alternating order: what one leaves behind, the other meets.
      for (const name of round % 2 ? [...names].reverse() : names) runs.get(name)!.push(await race.run(name));
    }
    const bare = runs.get(BARE)!;
    const table = [HEAD, ...names.map((name) => row(name, runs.get(name)!, bare, gigabytes))];
    const widths = HEAD.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
    for (const line of table)
      console.log(
        line
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd(),
      );
    console.log(
      `xxh64 of the same payloads, in none of the rows: ${(gigabytes / (await hashSeconds(frames))).toFixed(2)} GB/s`,
    );
    for (const name of BAR.names.filter((name) => runs.has(name))) {
      const ratio = median(runs.get(name)!.map(({ seconds }, i) => bare[i]!.seconds / seconds));
      if (ratio < BAR.ratio) process.exitCode = 1;
      console.log(
        `${ratio < BAR.ratio ? "FAIL" : "PASS"}  ${name} at ${ratio.toFixed(2)} of bare TCP, at least ${BAR.ratio}`,
      );
    }
  } finally {
    race.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

const command = new Command("bench:channels")
  .description("Moves prebuilt frames over every channel, and over bare sockets, and compares.")
  .option("--bytes <size>", "bytes of a run", parseBytes, 2 * 2 ** 30)
  .option("--rounds <n>", "runs of each", Number, 5)
  .option("--only <name>", "this one, beside bare TCP")
  .action(main);
await command.parseAsync();
