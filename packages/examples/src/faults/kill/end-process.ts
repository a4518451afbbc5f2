import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { EndJob, EndReport } from "./job.js";

const PROGRAM = fileURLToPath(new URL("./end.js", import.meta.url));

/** A process that is one end of a transfer. */
export class TransferEnd {
  readonly #child: ChildProcess;
  /** How it came out; `undefined` of one that was killed. */
  result: Exclude<EndReport, { is: "listening" }> | undefined;
  /** Where it listens, if it does, as soon as it does. */
  readonly listening: Promise<string>;
  readonly exited: Promise<unknown>;
  gone = false;

  constructor(job: EndJob) {
    this.#child = fork(PROGRAM, [JSON.stringify(job)], { execArgv: [] });
    this.exited = once(this.#child, "exit").then(() => {
      this.gone = true;
    });
    this.listening = new Promise((resolve, reject) => {
      this.#child.on("message", (message) => {
        const report = message as EndReport;
        if (report.is === "listening") resolve(report.url);
        else this.result = report;
      });
      void this.exited.then(() => reject(new Error("the end is gone")));
    });
    this.listening.catch(() => {});
  }

  /** Ends it at once: it gets to do nothing more. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}
