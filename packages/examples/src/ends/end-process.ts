import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { ProgressEvent } from "@tensorwire/stream";
import type { JobResult, ReceiveJob, Report, SendJob } from "./job.js";

/** A job under way in another process. */
export interface RunningJob {
  /** Where the receiving end can be reached. */
  readonly listening: Promise<string>;
  readonly done: Promise<JobResult>;
}

/** Who waits for what the process says next. */
interface Listener {
  report(report: Report): void;
  fail(error: Error): void;
}

type JobOf = { readonly sender: SendJob; readonly receiver: ReceiveJob };
export type EndName = keyof JobOf;

/** One end of a transfer as a process of its own, so that its memory is its own. */
export class EndProcess<Name extends EndName = EndName> {
  #listener: Listener | undefined;
  #exit: Error | undefined;
  #baseBytes = 0;

  private constructor(
    readonly name: Name,
    private readonly child: ChildProcess,
  ) {
    child.on("message", (message) => this.#listener?.report(message as Report));
    child.on("error", (error) => this.#gone(error));
    child.on("exit", (code, signal) => this.#gone(new Error(`the ${name} exited with ${signal ?? code}`)));
  }

  /**
   * Resolves when everything is imported: what the process weighs then is its base.
   * @param flags For Node: a profiler's, say. The parent's own are not passed on, since what they load is not the library's.
   */
  static async start<Name extends EndName>(
    name: Name,
    flags: readonly string[] = [],
  ): Promise<EndProcess<Name>> {
    const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
    const end = new EndProcess(name, fork(program, { execArgv: [...flags] }));
    await new Promise<void>((resolve, reject) => {
      const ready = (report: Report): void => {
        if (report.kind !== "ready") return;
        end.#baseBytes = report.rssBytes;
        resolve();
      };
      end.#listener = { report: ready, fail: reject };
    });
    return end;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Its resident set with everything imported, before its first job, as the process itself saw it. */
  get baseBytes(): number {
    return this.#baseBytes;
  }

  /** Gives it a job. One at a time. */
  run(job: JobOf[Name], onProgress?: (event: ProgressEvent) => void): RunningJob {
    if (this.#exit) throw this.#exit;
    let listener: Listener;
    const listening = new Promise<string>((resolve, reject) => {
      listener = {
        report: (report) => void (report.kind === "listening" && resolve(report.url)),
        fail: reject,
      };
    });
    const done = new Promise<JobResult>((resolve, reject) => {
      const { report, fail } = listener;
      const failing = (error: Error): void => {
        fail(error);
        reject(error);
      };
      this.#listener = {
        report: (message) => {
          report(message);
          if (message.kind === "progress") onProgress?.(message.event);
          else if (message.kind === "done") resolve(message.result);
          else if (message.kind === "failed") failing(this.#failure(message.error));
        },
        fail: failing,
      };
    });
    // Whoever waits for only one of the two has the same error from it.
    listening.catch(() => {});
    done.catch(() => {});
    this.child.send(job);
    return { listening, done };
  }

  #failure({ name, message }: { readonly name: string; readonly message: string }): Error {
    return new Error(`the ${this.name} failed: ${name}: ${message}`);
  }

  #gone(error: Error): void {
    this.#exit ??= error;
    this.#listener?.fail(error);
  }

  /** Lets it go: it exits by itself, with what a profiler has to write, and is ended after a while if it does not. */
  async close(): Promise<void> {
    if (this.#exit) return;
    const exited = new Promise((resolve) => this.child.once("exit", resolve));
    const patience = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    this.child.disconnect();
    await exited;
    clearTimeout(patience);
  }
}
