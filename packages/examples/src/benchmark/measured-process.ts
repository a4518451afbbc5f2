import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { readProcStatus } from "../memory/proc-status.js";
import type { EndMessage, EndReport } from "./end-report.js";

/** A program to measure, from its start to its exit. */
export interface Command {
  readonly argv: readonly string[];
  /** A path that its standard input is. Without it: the other end's address, once that is known. */
  readonly stdin?: string;
  /** A path that its standard output is. Without it: nowhere. */
  readonly stdout?: string;
}

/** What a process took. */
export interface ProcessFigures extends EndReport {
  /** Of all its threads, from start to exit: what the shell says that waited for it. */
  readonly cpuSeconds: number;
}

/** How often programs are looked at that say nothing of themselves. */
const LOOK_MS = 10;
const ERROR_CHARACTERS = 2000;

// The shell waits for the program, and then knows what it took, exit and all. A program in the background has no standard
// input but what it is given by another number.
const SCRIPT = `if [ "$1" ]; then exec 5<"$1"; else exec 5<&0; fi; exec 6>"$2"; shift 2
"$@" <&5 >&6 5<&- 6>&- & pid=$!; exec 5<&- 6>&- 0</dev/null; echo "pid $pid" >&3
wait $pid; code=$?; times >&3; exit $code`;

/** A program that runs, in a process of its own. */
export class MeasuredProcess {
  readonly #shell: ChildProcess;
  #pid: number | undefined;
  #cpuSeconds = 0;
  #seen: EndReport | undefined;
  #report: EndReport | undefined;
  #errors = "";
  /** Resolves when it has ended; rejects with what it said, where it failed. */
  readonly ended: Promise<ProcessFigures>;
  #address: (address: string) => void = () => {};
  /** Where it can be reached, if it says so. */
  readonly address = new Promise<string>((resolve) => (this.#address = resolve));

  constructor(
    readonly name: string,
    { argv, stdin = "", stdout = "/dev/null" }: Command,
  ) {
    this.#shell = spawn("/bin/sh", ["-c", SCRIPT, "sh", stdin, stdout, ...argv], {
      stdio: ["pipe", "ignore", "pipe", "pipe"],
    });
    // A program that ended did not read what it was told.
    this.#shell.stdin!.on("error", () => {});
    this.#shell.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-ERROR_CHARACTERS);
    });
    this.ended = this.#end();
  }

  /** Tells it where the other end can be reached. */
  tell(address: string): void {
    this.#shell.stdin!.end(address);
  }

  async #listen(lines: Readable): Promise<void> {
    for await (const line of createInterface(lines)) {
      const times = /^(\d+)m([\d.]+)s (\d+)m([\d.]+)s$/.exec(line)?.slice(1).map(Number);
      if (line.startsWith("pid ")) this.#pid = Number(line.slice(4));
      // The second of two lines: of the shell's children.
      else if (times) this.#cpuSeconds = 60 * times[0]! + times[1]! + 60 * times[2]! + times[3]!;
      else this.#hear(JSON.parse(line) as EndMessage);
    }
  }

  #hear(message: EndMessage): void {
    if ("address" in message) this.#address(message.address);
    else this.#report = message.report;
  }

  async #end(): Promise<ProcessFigures> {
    const said = this.#listen(this.#shell.stdio[3] as Readable);
    const looking = setInterval(() => this.#look(), LOOK_MS);
    try {
      const [code, signal] = await once(this.#shell, "close");
      await said;
      if (code !== 0) {
        const words = this.#errors.trim().split("\n").slice(-3).join(" ") || "it said nothing";
        throw new Error(`the ${this.name} exited with ${signal ?? code}: ${words}`);
      }
    } finally {
      clearInterval(looking);
    }
    const seen = this.#report ?? this.#seen;
    if (!seen) throw new Error(`the ${this.name} was gone before anybody looked at it`);
    return { ...seen, cpuSeconds: this.#cpuSeconds };
  }

  /** From outside, at what says nothing of itself. Its last words are missed by at most an interval. */
  #look(): void {
    if (this.#report || this.#pid === undefined) return;
    const status = readProcStatus(this.#pid);
    if (!status) return;
    const { rssBytes, peakBytes } = status;
    this.#seen = { baseBytes: this.#seen?.baseBytes ?? rssBytes, peakBytes };
  }

  kill(): void {
    if (this.#shell.exitCode !== null || this.#shell.signalCode !== null) return;
    if (this.#pid === undefined) this.#shell.kill("SIGKILL");
    else {
      try {
        process.kill(this.#pid, "SIGKILL");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
  }
}
