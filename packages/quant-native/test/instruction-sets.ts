import { readFileSync } from "node:fs";
import { arch, platform } from "node:os";
import type { CodecBackend } from "@tensorwire/core";
import { describe, it } from "vitest";
import { loadAddon } from "../src/addon.js";
import { loadNativeBackend } from "../src/index.js";

/** Another build to test, as scripts/sanitize.mjs does; the ordinary one by default. */
export const addonPath = process.env.TENSORWIRE_TEST_ADDON || undefined;

const addon = loadAddon(addonPath);

/** The addon, or undefined on a machine without a compiler. */
export const built = addon instanceof Error ? undefined : addon;

if (built === undefined && process.env.TENSORWIRE_REQUIRE_NATIVE === "1") {
  throw new Error("TENSORWIRE_REQUIRE_NATIVE=1, and there is no addon: run npm run build", { cause: addon });
}

/** Whether this processor has these features, as far as can be told without the addon. */
export function processorHas(...features: string[]): boolean {
  if (platform() !== "linux" || arch() !== "x64") return false;
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
  return features.every((feature) => flags.includes(feature));
}

/** Registers `tests` where there is an addon, and says so where there is none. */
export function describeNative(name: string, tests: () => void): void {
  if (built !== undefined) describe(name, tests);
  else skip(name, "a C++ compiler when building");
}

/** Registers `tests` for each instruction set, and says which ones this machine lacks. */
export function describeEachIsa(
  name: string,
  tests: (makeBackend: () => CodecBackend, isa: string) => void,
): void {
  for (const isa of ["scalar", ...(arch() === "arm64" ? ["neon"] : ["avx2", "avx512"])]) {
    if (built?.isas.includes(isa)) {
      describe(`${name}, ${isa}`, () => {
        tests(() => loadNativeBackend({ isa, addon: addonPath })!, isa);
      });
    } else {
      skip(`${name}, ${isa}`, built === undefined ? "a C++ compiler when building" : isa.toUpperCase());
    }
  }
}

function skip(name: string, needs: string): void {
  console.log(`SKIPPED: needs ${needs}: ${name}`);
  it.skip(`${name}: needs ${needs}`, () => {});
}
