import { execFileSync } from "node:child_process";
import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem, type as system } from "node:os";
import { defaultBackend } from "@tensorwire/quant-native";

/** What figures depend on. */
export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly system: string;
  readonly node: string;
  /** Where the codecs ran. */
  readonly backend: string;
  /** Where source and target lay. */
  readonly scratch: "tmpfs" | "disk";
}

const TMPFS_MAGIC = 0x01021994;

export function describeMachine(scratch: string): Machine {
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${distribution()}${system()} ${release().split("-")[0]}`,
    node: process.versions.node,
    backend: defaultBackend().name,
    scratch: statfsSync(scratch).type === TMPFS_MAGIC ? "tmpfs" : "disk",
  };
}

function distribution(): string {
  try {
    const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
    return name ? `${name}, ` : "";
  } catch {
    return "";
  }
}

export function machineText({
  processor,
  cores,
  memoryBytes,
  system,
  node,
  backend,
  scratch,
}: Machine): string {
  const memory = `${(memoryBytes / 2 ** 30).toFixed(1)} GiB of memory`;
  return `${processor}, ${cores} cores, ${memory}; ${system}; Node ${node}; ${backend} codecs; files on ${scratch}`;
}

/** The commit that is checked out, and whether what was measured differs from it. */
export function describeCommit(root: string): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git("status", "--porcelain", "--", "packages", "package-lock.json");
    return git("rev-parse", "--short=12", "HEAD") + (changed ? ", with changes" : "");
  } catch {
    return "unknown: not a git checkout";
  }
}
