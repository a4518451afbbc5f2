import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { DiskReport, DiskTask } from "./disk/job.js";
import { MISHAPS } from "./disk/mishap.js";
import type { FaultKind, FaultOptions, FaultReport } from "./fault-kind.js";

const USUAL = 4 * MISHAPS.length;
const PROGRAM = fileURLToPath(new URL("./disk/program.js", import.meta.url));

/** How a process gets mounts of its own: as root, or as root of a namespace of users too. */
const NAMESPACES = [["--mount"], ["--user", "--map-root-user", "--mount"]];

/** The first that works here. */
function namespace(): readonly string[] | undefined {
  const probe = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/tmp"];
  return NAMESPACES.find((flags) => spawnSync("unshare", [...flags, ...probe]).status === 0);
}

function runProgram({ seed, from, count = USUAL, scratch }: FaultOptions): Promise<DiskReport> {
  const flags = namespace();
  const task: DiskTask = { seed, from, count, scratch, mounts: flags !== undefined };
  const [command, ...prefix] = flags ? ["unshare", ...flags, process.execPath] : [process.execPath];
  const child = spawn(command!, [...prefix, PROGRAM, JSON.stringify(task)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  return new Promise((resolve, reject) => {
    child.once("message", (report) => resolve(report as DiskReport));
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      reject(new Error(`the disks' process ended with ${signal ?? code}`)),
    );
  });
}

export const disk: FaultKind = {
  name: "disk",
  about: "disks that are full or read-only, files that change on their way, places that are removed",
  run: (options): Promise<FaultReport> => runProgram(options) as Promise<FaultReport>,
};
