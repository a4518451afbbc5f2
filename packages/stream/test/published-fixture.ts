import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { platformPackage } from "../../quant-native/src/platform-package.js";

export const workspace = fileURLToPath(new URL("../../..", import.meta.url));

const ADDON = join(workspace, "packages/quant-native/build/tensorwire_quant.node");

/** Whether there is anything to pack. */
export const built = existsSync(join(workspace, "packages/stream/dist/index.js"));
if (!built) console.log("SKIPPED: needs npm run build");

/** What package.json says, as far as the tests look. */
export interface Published {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly publishConfig: object;
  readonly main?: string;
  readonly exports?: Record<string, string | Record<string, string>>;
  readonly bin?: Record<string, string>;
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
}

/** A package as whoever installs it gets it. */
export interface Packed {
  readonly manifest: Published;
  readonly tarball: string;
  /** What the tarball holds, unpacked. */
  readonly folder: string;
  /** Paths of its files. */
  readonly files: readonly string[];
  text(path: string): string;
}

/** Packs as a release does, with the addon that was built here as this platform's. @returns the packages, and what removes them. */
export function packAll(): { readonly packages: readonly Packed[]; remove(): void } {
  const scratch = mkdtempSync(join(tmpdir(), "tensorwire-published-"));
  const platform = platformPackage()?.replace("@tensorwire/quant-native-", "");
  const prebuilt = join(scratch, "prebuilt");
  if (platform !== undefined && existsSync(ADDON)) {
    mkdirSync(join(prebuilt, platform), { recursive: true });
    copyFileSync(ADDON, join(prebuilt, platform, "tensorwire_quant.node"));
  }
  const output = join(scratch, "release");
  const flags = ["--partial", "--prebuilt", prebuilt, "--output", output];
  execFileSync(process.execPath, [join(workspace, "scripts/pack.mjs"), ...flags], { stdio: "pipe" });
  const tarballs = readdirSync(output).filter((name) => name.endsWith(".tgz"));
  const packages = tarballs.map((name) => unpacked(join(output, name), join(scratch, name.slice(0, -4))));
  return { packages, remove: () => rmSync(scratch, { recursive: true }) };
}

function unpacked(tarball: string, into: string): Packed {
  mkdirSync(into);
  execFileSync("tar", ["-xzf", tarball, "-C", into]);
  const folder = join(into, "package");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  const text = (path: string): string => readFileSync(join(folder, path), "latin1");
  return { manifest: JSON.parse(text("package.json")), tarball, folder, files, text };
}
