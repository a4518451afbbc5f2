// Builds the addon for each platform that a package is made for, into build/prebuilt, and lists what each file needs.
// Where nothing compiles for a platform it says so and goes on; pack-release.mjs makes packages of what there is.
//
//   node scripts/prebuild.mjs [--output <directory>] [platform …]      (linux-x64-gnu …; all by default)
import { execFileSync } from "node:child_process";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compilerFor, faultOf, needsOf, PLATFORMS } from "./platforms.mjs";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));

const { values, positionals: wanted } = parseArgs({
  options: { output: { type: "string", default: join(packageRoot, "build", "prebuilt") } },
  allowPositionals: true,
});

function prebuild(platform) {
  const output = join(values.output, platform.name);
  rmSync(output, { recursive: true, force: true });
  const compiler = compilerFor(platform);
  if (compiler === undefined) return { said: "nothing compiles for it here", skipped: true };
  execFileSync(
    process.execPath,
    [
      join(packageRoot, "scripts", "build-addon.mjs"),
      "--release",
      "--arch",
      platform.cpu,
      "--output",
      output,
    ],
    {
      stdio: "inherit",
      env: {
        ...process.env,
        CXX: compiler,
        TENSORWIRE_REQUIRE_NATIVE: "1",
        // A system's own library is not on every system.
        TENSORWIRE_ZSTD: process.env.TENSORWIRE_ZSTD || "sources",
      },
    },
  );
  const file = join(output, "tensorwire_quant.node");
  const needs = needsOf(file);
  const fault = faultOf(needs);
  if (fault !== undefined) {
    rmSync(output, { recursive: true });
    throw new Error(`the addon for ${platform.name} cannot be shipped: ${fault}`);
  }
  const { libraries, versions } = needs;
  const kib = `${Math.ceil(statSync(file).size / 1024)} KiB`;
  return { said: `${kib}, needs ${[...libraries, ...versions].join(" ")}; by ${compiler}` };
}

const unknown = wanted.find((name) => PLATFORMS.every((platform) => platform.name !== name));
if (unknown !== undefined) {
  console.error(`there is no platform ${unknown}; there are ${PLATFORMS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}
let skipped = false;
for (const platform of PLATFORMS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const built = prebuild(platform);
  skipped ||= built.skipped;
  console.log(`${platform.name.padEnd(18)}${built.said}`);
}
if (skipped) {
  console.log(
    "To build those too, install g++-aarch64-linux-gnu (Debian) for arm64, or zig (`pip install ziglang`) for all of them.",
  );
}
