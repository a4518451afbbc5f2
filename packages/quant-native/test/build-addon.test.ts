import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadAddon } from "../src/addon.js";
import { built, describeNative, processorHas } from "./instruction-sets.js";

const script = fileURLToPath(new URL("../scripts/build-addon.mjs", import.meta.url));

let output: string;
beforeEach(() => {
  output = mkdtempSync(join(tmpdir(), "tensorwire-"));
});
afterEach(() => {
  rmSync(output, { recursive: true });
});

async function build(env: Record<string, string> = {}) {
  const { TENSORWIRE_REQUIRE_NATIVE: _, ...ours } = process.env;
  const run = promisify(execFile)(process.execPath, [script, "--output", output], {
    env: { ...ours, ...env },
  });
  const { code = 0, stderr } = await run.catch((error) => error);
  return { code, stderr, addon: join(output, "tensorwire_quant.node") };
}

describe("building where there is no compiler", () => {
  it("gives one notice that says what to do, and succeeds", async () => {
    const { code, stderr, addon } = await build({ CXX: "no-such-compiler" });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^@tensorwire\/quant-native: no native addon was built: CXX is no-such-compiler/);
    expect(stderr).toMatch(/portable codecs serve.*apt-get install g\+\+/s);
    expect(existsSync(addon)).toBe(false);
  });

  it("fails where native codecs are required", async () => {
    const { code, stderr } = await build({ CXX: "no-such-compiler", TENSORWIRE_REQUIRE_NATIVE: "1" });
    expect(code).toBe(1);
    expect(stderr).toContain("this build fails");
  });

  it("leaves no addon of other sources behind where compiling fails", async () => {
    const addon = join(output, "tensorwire_quant.node");
    writeFileSync(addon, "old");
    // Answers --version, and compiles nothing.
    const { code, stderr } = await build({ CXX: "git" });
    expect(code).toBe(0);
    expect(stderr).toContain("git failed");
    expect(existsSync(addon)).toBe(false);
  });
});

describeNative("building", () => {
  it("makes an addon with the kernels of this processor, and only once", async () => {
    const { code, stderr, addon } = await build();
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(loadAddon(addon)).toMatchObject({ isas: built!.isas });
    expect(built!.isas.at(-1)).toBe("scalar");
    if (processorHas("avx2", "f16c")) expect(built!.isas).toContain("avx2");
    const { mtimeMs } = statSync(addon);
    await build();
    expect(statSync(addon).mtimeMs).toBe(mtimeMs);
    await build({ CXXFLAGS: "-DOTHER" });
    expect(statSync(addon).mtimeMs).toBeGreaterThan(mtimeMs);
  }, 120_000);
});
