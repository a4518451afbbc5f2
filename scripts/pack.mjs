// Packs everything that is published, from what was built: each package that is not private, as `npm pack` has it, and
// @tensorwire/quant-native with its platforms' packages (its own pack-release.mjs).
//
//   node scripts/pack.mjs [--partial] [--prebuilt <directory>] [--output <directory>]
//
// The options are pack-release.mjs'; the default of --output is out/release.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({
  options: {
    partial: { type: "boolean" },
    prebuilt: { type: "string" },
    output: { type: "string", default: join(root, "out", "release") },
  },
});
const output = resolve(values.output);
mkdirSync(output, { recursive: true });

for (const name of readdirSync(join(root, "packages"))) {
  const folder = join(root, "packages", name);
  if (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).private) continue;
  const release = join(folder, "scripts", "pack-release.mjs");
  if (existsSync(release)) {
    const prebuilt = values.prebuilt === undefined ? [] : ["--prebuilt", resolve(values.prebuilt)];
    const flags = [...(values.partial ? ["--partial"] : []), ...prebuilt, "--output", output];
    execFileSync(process.execPath, [release, ...flags], { stdio: "inherit" });
  } else {
    execFileSync("npm", ["pack", "--ignore-scripts", "--pack-destination", output], {
      cwd: folder,
      stdio: ["ignore", "inherit", "ignore"],
    });
  }
}
