import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { isErrno } from "./target-error.js";

/** Who holds a lock: enough to tell whether that process still runs. */
export interface Owner {
  readonly pid: number;
  readonly host: string;
  /** The process's start in the kernel's ticks (`/proc/PID/stat`, field 22): pids come again. Null where there is no /proc. */
  readonly started: string | null;
}

/** This process as an owner, in the text that stands in a lock. `token` makes every lock's text its own. */
export function describeSelf(token: string): string {
  const { pid } = process;
  const owner: Owner = { pid, host: hostname(), started: inspect(pid)?.started ?? null };
  return JSON.stringify({ ...owner, token });
}

/** The owner that a lock's text names; undefined where it is no such text. */
export function parseOwner(text: string): Owner | undefined {
  try {
    const { pid, host, started } = JSON.parse(text) as Record<string, unknown>;
    if (!Number.isSafeInteger(pid) || (pid as number) < 1 || typeof host !== "string") return undefined;
    return { pid: pid as number, host, started: typeof started === "string" ? started : null };
  } catch {
    return undefined;
  }
}

/** Whether the owner may still run: false only where that is certain. */
export function isRunning({ pid, host, started }: Owner): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Other failures say that it runs, as somebody else.
    if (isErrno(error, "ESRCH")) return false;
  }
  const found = inspect(pid);
  if (!found) return true;
  // A zombie holds a pid, and nothing else.
  if (found.state === "Z" || found.state === "X") return false;
  return started === null || started === found.started;
}

/** State and start of a process, where the system has /proc. */
function inspect(pid: number): { readonly state: string; readonly started: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field, in parentheses, is a name that may hold spaces and parentheses of its own.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [state, started] = [fields[0], fields[19]];
    return state && started ? { state, started } : undefined;
  } catch {
    return undefined;
  }
}
