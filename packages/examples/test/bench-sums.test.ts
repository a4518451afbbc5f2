import { expect, it } from "vitest";
import { run } from "./program.js";

it("the bench of sums adds every codec's payloads with every instruction set", {
  timeout: 300_000,
}, async () => {
  const { stdout, stderr, code } = await run("bench/sums", ["--quick", "--json"]);
  expect(code, stderr).toBe(0);
  if (stdout.startsWith("SKIPPED")) {
    console.log(stdout.trim());
    return;
  }
  const { rows } = JSON.parse(stdout) as { rows: { label: string; speeds: Record<string, number> }[] };
  expect(new Set(rows.map(({ label }) => label))).toContain("normfloat4 nested");
  for (const { label, speeds } of rows) {
    for (const [column, speed] of Object.entries(speeds))
      expect(speed, `${label}, ${column}`).toBeGreaterThan(0);
  }
});
