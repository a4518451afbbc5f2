import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

// A sample: scripts/fuzz.mjs by itself takes its time for each codec.
it("a few seconds of fuzzing find nothing in decoders, encoders and envelopes", {
  timeout: 600_000,
}, async () => {
  const script = fileURLToPath(new URL("../scripts/fuzz.mjs", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, "--together", "--seconds", "4"], {
    // The system's library is not instrumented, but there at once.
    env: { ...process.env, TENSORWIRE_ZSTD: "system" },
  });
  if (stdout.startsWith("SKIPPED")) {
    console.log(stdout.trim());
    return;
  }
  const without = /^without libzstd.*$/m.exec(stdout);
  if (without) console.log(`SKIPPED: needs libzstd-dev: fuzzing frames (${without[0]})`);
  expect(stdout.match(/^(decode|encode|unpack|pack)-all +\d+ inputs, no fault$/gm)).toHaveLength(4);
});
