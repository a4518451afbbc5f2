import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { FederatedAnswer, FederatedJob, FederatedResult } from "./job.js";

/** A process that does jobs, one at a time: its memory and its processor time are its own. */
export class JobProcess {
  private constructor(private readonly child: ChildProcess) {}

  /** Resolves when everything is imported. */
  static async start(): Promise<JobProcess> {
    // For `node --cpu-prof`: a profile of each process is written where it says. The parent's own flags are not passed on.
    const execArgv = process.env.BENCH_FLAGS?.split(" ") ?? [];
    const started = new JobProcess(
      fork(fileURLToPath(new URL("./program.js", import.meta.url)), { execArgv }),
    );
    await started.#message();
    return started;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** @throws Error with what went wrong in it. */
  async run(job: FederatedJob): Promise<FederatedResult> {
    const answered = this.#message();
    this.child.send(job);
    const answer = (await answered) as FederatedAnswer;
    if ("result" in answer) return answer.result;
    throw new Error(`${job.kind}: ${answer.error}`);
  }

  async #message(): Promise<unknown> {
    const over = new AbortController();
    const gone = async (): Promise<never> => {
      const [code, signal] = await once(this.child, "exit", over);
      throw new Error(`a process of the bench exited with ${signal ?? code}`);
    };
    try {
      const [message] = await Promise.race([once(this.child, "message", over), gone()]);
      return message;
    } finally {
      over.abort();
    }
  }

  async cpuSeconds(): Promise<number> {
    return (await this.run({ kind: "cpu" })).cpuSeconds;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, "exit");
    this.child.disconnect();
    await exited;
  }
}
