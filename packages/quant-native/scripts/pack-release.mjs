// Packs what is published: @tensorwire/quant-native without an addon, and a package with the addon for each platform that
// prebuild.mjs built for, which the former names as optional dependencies of its own version. Nothing runs when they are
// installed. (The manifest in this repository names none of them: they are published together with it.)
//
//   node scripts/pack-release.mjs [--partial] [--prebuilt <directory>] [--output <directory>]
//
// --partial packs what there is; without it a platform that was not built for is a failure. --prebuilt is where
// prebuild.mjs wrote to.
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { npmFields, PLATFORMS } from "./platforms.mjs";
import { findSources } from "./zstd.mjs";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const ADDON = "tensorwire_quant.node";
const ZSTD_LICENSE = "LICENSE-zstd";
const { values } = parseArgs({
  options: {
    partial: { type: "boolean" },
    prebuilt: { type: "string", default: join(packageRoot, "build", "prebuilt") },
    output: { type: "string", default: join(packageRoot, "build", "release") },
  },
});
const output = resolve(values.output);
const manifest = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));

const prebuilt = ({ name }) => join(values.prebuilt, name, ADDON);
const packageName = ({ name }) => `${manifest.name}-${name}`;

/** A folder of what goes into one package. */
function stage(name) {
  const folder = join(output, name.replace("@", "").replace("/", "-"));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(packageRoot, "LICENSE"), join(folder, "LICENSE"));
  return folder;
}

function pack(folder, fields) {
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(fields, undefined, 2)}\n`);
  const packed = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", output], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [{ filename, size }] = JSON.parse(packed);
  console.log(`${filename}  ${Math.ceil(size / 1024)} KiB`);
}

function packPlatform(platform) {
  const name = packageName(platform);
  const folder = stage(name);
  copyFileSync(prebuilt(platform), join(folder, ADDON));
  // It is in the file, and its license asks to be told wherever the file goes.
  const zstd = findSources();
  if (zstd !== undefined) copyFileSync(join(zstd, "..", "LICENSE"), join(folder, ZSTD_LICENSE));
  writeFileSync(
    join(folder, "README.md"),
    `# ${name}\n\nThe native addon of [${manifest.name}](https://www.npmjs.com/package/${manifest.name}), built for ` +
      `${platform.name}.\nThat package depends on this one where it fits the machine: there is no need to name it.\n\n${manifest.license}.\n`,
  );
  pack(folder, {
    name,
    version: manifest.version,
    description: `The native addon of ${manifest.name} for ${platform.name}.`,
    license: manifest.license,
    publishConfig: manifest.publishConfig,
    main: ADDON,
    files: [ADDON, ZSTD_LICENSE],
    engines: manifest.engines,
    preferUnplugged: true,
    ...npmFields(platform),
  });
}

function packMain(platforms) {
  const folder = stage(manifest.name);
  copyFileSync(join(packageRoot, "README.md"), join(folder, "README.md"));
  // The addon comes from a platform's package; its sources are here, for platforms that have none.
  for (const name of manifest.files) cpSync(join(packageRoot, name), join(folder, name), { recursive: true });
  pack(folder, {
    ...manifest,
    scripts: { build: "node scripts/build-addon.mjs" },
    optionalDependencies: {
      ...manifest.optionalDependencies,
      ...Object.fromEntries(platforms.map((platform) => [packageName(platform), manifest.version])),
    },
  });
}

const built = PLATFORMS.filter((platform) => existsSync(prebuilt(platform)));
const absent = PLATFORMS.filter((platform) => !built.includes(platform)).map(({ name }) => name);
if (absent.length > 0 && !values.partial) {
  console.error(`not built: ${absent.join(", ")}. Run prebuild.mjs, or pass --partial to go without.`);
  process.exit(1);
}
for (const platform of built) packPlatform(platform);
packMain(built);
