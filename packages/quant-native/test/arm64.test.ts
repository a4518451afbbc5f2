import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

// In an emulator, so that it is done on any processor; scripts/test-arm64.mjs without --sample does the whole suite.
it("the addon for arm64 makes the reference's bytes", { timeout: 600_000 }, async () => {
  const script = fileURLToPath(new URL("../scripts/test-arm64.mjs", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, "--sample"]);
  if (stdout.startsWith("SKIPPED")) console.log(stdout.trim());
  else expect(stdout).toMatch(/^arm64: .*scalar: \d+ chunks as the reference makes them\n$/);
});
