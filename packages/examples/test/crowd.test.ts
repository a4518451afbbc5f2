import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hasProc } from "../src/memory/proc-status.js";

const MiB = 2 ** 20;
/** What a process may take beside its budget and what one transfer leaves. */
const MARGIN = 48 * MiB;

if (!hasProc) console.log("SKIPPED: needs /proc");

// A sample; `npm run test:faults` has 64 transfers in 256 MiB.
test.skipIf(!hasProc).each(["receive", "send"] as const)(
  "a process that %ss 16 models at once, half of them slowly, stays within its budget, and the fast ones are not held up",
  { timeout: 120_000 },
  async (role) => {
    // Built: it starts processes.
    const { crowd, CROWD } = await import("../dist/faults/budget.js" as string);
    const scratch = await mkdtemp(join(tmpdir(), "tensorwire-crowd-"));
    try {
      const size = { ...CROWD, transfers: 16, slow: 8, budgetBytes: 64 * MiB, modelBytes: 8 * MiB };
      const report = await crowd(size, role, scratch);
      expect(report.errors).toEqual([]);
      expect(report.fastFirst).toBe(8);
      expect(report.mostReservedBytes).toBeLessThanOrEqual(size.budgetBytes);
      // It was wanted: an ample budget would prove nothing.
      expect(report.mostReservedBytes).toBeGreaterThan(0.8 * size.budgetBytes);
      expect(report.reservedBytes).toBe(0);
      expect(report.peakBytes).toBeLessThanOrEqual(size.budgetBytes + report.baseBytes + MARGIN);
      expect((await readdir(scratch)).filter((name) => name !== "source.safetensors")).toEqual([]);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  },
);
