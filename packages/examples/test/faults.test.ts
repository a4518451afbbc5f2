import { describe, expect, test } from "vitest";
import { run } from "./program.js";

// A sample of what `npm run test:faults` does at length: enough to notice a promise that is broken often.

async function faults(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run("faults/main", args);
  for (const line of stdout.split("\n")) if (line.startsWith("SKIPPED:")) console.log(line);
  expect(stdout.split("\n").filter((line) => line.startsWith("FAIL"))).toEqual([]);
  expect(code, stdout + stderr).toBe(0);
  return stdout;
}

const passed = (stdout: string): string[] => stdout.split("\n").filter((line) => line.startsWith("PASS"));

describe("every promise is kept", { timeout: 180_000 }, () => {
  // These wait for timers and for the far end of a line: side by side they take as long as the longest of them.
  describe.concurrent("whatever else the machine does", () => {
    test("over a wire that corrupts, splits, stalls and cuts", async ({ expect }) => {
      const stdout = await faults("--only", "wire", "--count", "60");
      expect(passed(stdout)).toHaveLength(6);
      expect(stdout).toMatch(/PASS {2}every corruption is found \([1-9]/);
    });

    test("on disks that are full, read-only or change", async ({ expect }) => {
      expect(passed(await faults("--only", "disk", "--count", "10"))).toHaveLength(3);
    });

    test("by names that lead elsewhere", async ({ expect }) => {
      expect(passed(await faults("--only", "names"))).toHaveLength(4);
    });

    // How fast it is there is for a quiet machine to say: `npm run test:faults`. That it arrives is for this one.
    test("far away, beside a bare stream", async ({ expect }) => {
      const { stdout } = await run("faults/main", ["--only", "distance", "--count", "1"]);
      expect(stdout).toMatch(/^ +ws +[\d.]+ +[\d.]+$/m);
      expect(stdout).toMatch(/^ +tcp +[\d.]+ +[\d.]+$/m);
    });
  });

  test("by both ends that are fuzzed", async () => {
    const stdout = await faults("--only", "fuzz", "--count", "6000");
    expect(passed(stdout)).toHaveLength(2);
    expect(stdout).toMatch(/cases +6000\n/);
    // What never gets past the checksums is no test of what is behind them.
    for (const code of ["MANIFEST_INVALID", "PAYLOAD_INVALID", "DIGEST_MISMATCH", "done"]) {
      expect(stdout).toMatch(new RegExp(`^ +${code} +[1-9]`, "m"));
    }
  });

  test("where either end and the connection are killed, again and again", async () => {
    const stdout = await faults("--only", "kill", "--count", "6");
    expect(passed(stdout)).toHaveLength(4);
    expect(stdout).toMatch(/^ +transfers of 64 MiB +[1-9]/m);
  });

  test("by one process over and over", async () => {
    expect(passed(await faults("--only", "soak", "--count", "400"))).toHaveLength(5);
  });
});

test("what is asked for and is not there is said", async () => {
  const { code, stderr } = await run("faults/main", ["--only", "nothing"]);
  expect(code).not.toBe(0);
  expect(stderr).toContain("some of wire,fuzz");
});
