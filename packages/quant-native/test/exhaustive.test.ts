import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { addonPath, built, describeNative } from "./instruction-sets.js";

const script = fileURLToPath(new URL("../scripts/exhaustive.mjs", import.meta.url));

describeNative("a sample of every float there is", () => {
  it("is encoded as it is defined, by every instruction set", async () => {
    const run = promisify(execFile)(process.execPath, [
      script,
      "--sample",
      ...(addonPath ? [addonPath] : []),
    ]);
    const { stdout } = await run;
    expect(stdout).toContain(built!.isas.join(", "));
  }, 120_000);
});
