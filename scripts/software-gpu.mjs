// A Vulkan driver in software (SwiftShader), so that what runs on a GPU is tested where there is none. It comes with npm
// @sparticuz/chromium, and is unpacked once into node_modules/.cache.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/**
 * The environment that a process needs from its start on, so that Vulkan's loader finds that driver and no other.
 * Undefined where the package is not installed, or has none for this platform; empty with TENSORWIRE_GPU=system, which
 * takes the machine's own.
 */
export function softwareGpuEnvironment() {
  if (process.env.TENSORWIRE_GPU === "system") return {};
  if (process.platform !== "linux" || process.arch !== "x64") return undefined;
  const archive = archivePath();
  if (archive === undefined) return undefined;
  const folder = unpacked(archive);
  return {
    VK_ICD_FILENAMES: join(folder, "vk_swiftshader_icd.json"),
    LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":"),
    TENSORWIRE_SOFTWARE_GPU: "swiftshader",
  };
}

function archivePath() {
  const require = createRequire(join(root, "packages/quant-native/package.json"));
  for (const folder of require.resolve.paths("@sparticuz/chromium") ?? []) {
    const path = join(folder, "@sparticuz/chromium/bin/swiftshader.tar.br");
    if (existsSync(path)) return path;
  }
  return undefined;
}

function unpacked(archive) {
  const { version } = JSON.parse(readFileSync(join(archive, "../../package.json"), "utf8"));
  const cache = join(root, "node_modules/.cache/tensorwire");
  const folder = join(cache, `swiftshader-${version}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  // Several processes may come at once: each unpacks its own, and the first one's stays.
  const own = mkdtempSync(join(cache, "unpacking-"));
  execFileSync("tar", ["-x", "-C", own], { input: brotliDecompressSync(readFileSync(archive)) });
  const icd = join(own, "vk_swiftshader_icd.json");
  const description = JSON.parse(readFileSync(icd, "utf8"));
  // From this file's own folder on: a checkout may be moved, or copied with its node_modules.
  description.ICD.library_path = "./libvk_swiftshader.so";
  writeFileSync(icd, JSON.stringify(description));
  try {
    renameSync(own, folder);
  } catch (error) {
    rmSync(own, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}
