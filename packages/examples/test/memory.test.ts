import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Bar } from "../src/memory/bars.js";
import type { Measurement } from "../src/memory/measurement.js";
import { hasProc } from "../src/memory/proc-status.js";
import { run } from "./program.js";

const MiB = 2 ** 20;

interface Result {
  readonly bars: readonly Bar[];
  readonly result: { readonly regular: readonly Measurement[] };
}

if (!hasProc) console.log("SKIPPED: needs /proc");

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "memory-test-"));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

const memory = async (...args: string[]): Promise<Result> => {
  const { stdout, stderr, code } = await run("memory/main", [
    ...args,
    "--json",
    "--out",
    join(scratch, "plot.svg"),
  ]);
  if (stdout.startsWith("SKIPPED")) throw new Error(stdout);
  if (!stdout) throw new Error(stderr);
  const result: Result = JSON.parse(stdout);
  expect(code).toBe(result.bars.every(({ pass }) => pass) ? 0 : 1);
  return result;
};

// The medians of seven runs: what a WebSocket's reads leave to the garbage collector goes up and down by 20 MiB, and a peak
// is wherever it happened to be. From 256 MiB on, memory no longer depends on the model: below, garbage is not yet collected.
test.skipIf(!hasProc)(
  "a model of 1 GiB moves within the bounds, file to file and container to container",
  { timeout: 180_000 },
  async () => {
    const { bars } = await memory("--size", "1GiB", "--ways", "container,file", "--runs", "7");
    expect(bars).toHaveLength(8);
    expect(bars.filter(({ pass }) => !pass)).toEqual([]);
    expect(await readFile(join(scratch, "plot.svg"), "utf8")).toMatch(/^<svg.*<\/svg>\n$/s);
  },
);

// An instrument that sees nothing would pass every bound.
test.skipIf(!hasProc)("a blob is seen whole in both processes", { timeout: 120_000 }, async () => {
  const { result } = await memory("--size", "256MiB", "--ways", "regular", "--runs", "1");
  const [run] = result.regular;
  for (const end of [run!.sender, run!.receiver]) {
    expect(end.peakBytes - end.base.rssBytes).toBeGreaterThan(240 * MiB);
    expect(end.peakBytes - end.base.rssBytes).toBeLessThan(400 * MiB);
    expect(end.peakAnonBytes).toBeGreaterThan(240 * MiB);
  }
});
