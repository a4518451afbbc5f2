import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const script = fileURLToPath(new URL("../scripts/fuzz.mjs", import.meta.url));

// Seconds here, to see that the targets still run; minutes in the script itself.
it("withstands whatever a fuzzer comes up with", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [script, "--seconds", "4"]);
  if (stdout.includes("SKIPPED")) {
    console.log(stdout.trim());
    return;
  }
  for (const target of ["decode", "unpack", "encode"]) {
    expect(stdout).toMatch(new RegExp(`^${target}: \\d{3,} inputs in 4 s, none of them amiss$`, "m"));
  }
}, 600_000);
