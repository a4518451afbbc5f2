import type { JobResult, Report } from "./job.js";

export function report(message: Report): void {
  process.send!(message);
}

/** The loop of a process that was forked for one end of transfers: a job at a time, until the parent lets go. */
export function serveJobs<Job>(run: (job: Job) => Promise<JobResult>): void {
  if (!process.send)
    throw new Error("this program is one end of a transfer: the demo and the suites start it");
  process.on("message", (job: Job) => {
    run(job).then(
      (result) => report({ kind: "done", result }),
      (error: unknown) => {
        const { code, message, stack } = error as Error & { code?: string };
        // Ours say in their message all there is to say; others need their stack to be found.
        report({
          kind: "failed",
          error: { name: code ?? "Error", message: code ? message : (stack ?? message) },
        });
      },
    );
  });
  process.on("disconnect", () => process.exit());
  report({ kind: "ready", rssBytes: process.memoryUsage.rss() });
}
