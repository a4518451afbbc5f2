import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import { describeNative } from "./instruction-sets.js";

const fixture = (name: string) => new URL(`./fixtures/${name}`, import.meta.url);

/** Runs a fixture, which uses the built package, and tells how it ended. */
async function run(name: string, ...args: string[]) {
  const script = fileURLToPath(fixture(name));
  const outcome = await promisify(execFile)(process.execPath, [script, ...args], { timeout: 20_000 }).catch(
    (error) => error,
  );
  const { code = 0, signal = null, stdout, stderr } = outcome;
  return { code, signal, stdout, stderr };
}

const endOf = (ending: string) => run("pending-jobs.mjs", ending);

function hashesFrom(workerData: object): Promise<bigint[]> {
  return new Promise((resolve, reject) => {
    // Not the conditions of the test runner: workers import what was built.
    const worker = new Worker(fixture("hash-worker.mjs"), { workerData, execArgv: [] });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

describeNative("several environments", () => {
  it("run in one process at the same time, each with its own jobs", async () => {
    const rounds = await Promise.all(
      Array.from({ length: 4 }, () => hashesFrom({ jobs: 12, elements: 300_000 })),
    );
    expect(rounds.flat()).toHaveLength(48);
    expect(new Set(rounds.flat()).size).toBe(1);
  });

  it("can be torn down in the middle of their jobs", async () => {
    expect(await endOf("terminate")).toMatchObject({
      code: 0,
      signal: null,
      stdout: "terminated\n",
      stderr: "",
    });
  });
});

describeNative("the addon that a worker loaded", () => {
  const linux = process.platform === "linux";
  if (!linux) console.log("SKIPPED: needs Linux: the addon that a worker loaded stays");
  it.skipIf(!linux)("stays when the worker ends: so do threads with memory of it", async () => {
    expect(await run("only-workers.mjs")).toMatchObject({
      code: 0,
      signal: null,
      stdout: "loaded\n",
      stderr: "",
    });
  });
});

describeNative("a process with jobs in its queue", () => {
  it("ends by itself when they are done", async () => {
    expect(await endOf("forget")).toMatchObject({ code: 0, signal: null, stdout: "done\n", stderr: "" });
  });

  it("ends at once, and cleanly, when it is told to", async () => {
    expect(await endOf("exit")).toMatchObject({ code: 3, signal: null, stderr: "" });
  });

  it("ends with the error of a crash, not with one of its own", async () => {
    expect(await endOf("throw")).toMatchObject({
      code: 1,
      signal: null,
      stderr: expect.stringContaining("on purpose"),
    });
  });

  it("ends soon after they are aborted", async () => {
    expect(await endOf("abort")).toMatchObject({ code: 0, signal: null, stdout: "settled\n", stderr: "" });
  });
});
