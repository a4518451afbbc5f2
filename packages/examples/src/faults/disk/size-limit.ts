import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { writeModel } from "../models.js";
import { LARGE } from "./place.js";

/** The command as users run it. */
const COMMAND = join(
  dirname(createRequire(import.meta.url).resolve("@tensorwire/stream")),
  "../bin/tensorwire.js",
);

export interface LimitReport {
  readonly rows: readonly (readonly (string | number)[])[];
  readonly broken: readonly string[];
  readonly skipped: readonly string[];
}

/** The exit code of the command for `TARGET_FULL` and its like, as `docs/errors.md` has it. */
const TARGET_EXIT = 4;

/** A receiving process that may not write files as large as the model (`ulimit -f`, RLIMIT_FSIZE). */
export async function limitedFile(scratch: string): Promise<LimitReport> {
  if (spawnSync("sh", ["-c", "ulimit -f 4096"]).status !== 0) {
    return { rows: [], broken: [], skipped: ["needs a shell with ulimit -f"] };
  }
  const folder = join(scratch, "limited");
  await mkdir(folder);
  const source = join(folder, "source.safetensors");
  const target = join(folder, "target.safetensors");
  await writeModel(source, LARGE);
  const artifact = join(folder, "model.twire");
  await run("exec", "pack", source, artifact);
  const limited = await run("ulimit -f 4096; exec", "unpack", artifact, target);
  const broken: string[] = [];
  if (limited.code !== TARGET_EXIT || !/TARGET_FULL/.test(limited.stderr)) {
    broken.push(`ulimit -f: exit code ${limited.code}: ${limited.stderr}`);
  }
  if ((await readdir(folder)).includes("target.safetensors"))
    broken.push("ulimit -f: a file that is not whole");
  const free = await run("exec", "unpack", artifact, target);
  const same = free.code === 0 && (await readFile(source)).equals(await readFile(target));
  if (!same) broken.push(`ulimit -f, then without it: exit code ${free.code}: ${free.stderr}`);
  await rm(folder, { recursive: true });
  return { rows: [["a file size limit (ulimit -f)", 1, "TARGET_FULL", ""]], broken, skipped: [] };
}

async function run(shell: string, ...args: string[]): Promise<{ code: number | null; stderr: string }> {
  const child = spawn("sh", ["-c", `${shell} "$@"`, "sh", process.execPath, COMMAND, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stderr };
}
