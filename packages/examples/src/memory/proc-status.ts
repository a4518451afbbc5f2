import { existsSync, readFileSync } from "node:fs";

/** What Linux says of a process's memory, in bytes. */
export interface ProcStatus {
  /** Resident now (VmRSS). */
  readonly rssBytes: number;
  /** Of that, memory that is no file's (RssAnon). */
  readonly anonBytes: number;
  /** The most that was ever resident (VmHWM): the kernel keeps it, so no peak falls between two samples. */
  readonly peakBytes: number;
}

export const hasProc = existsSync("/proc/self/status");

/** `undefined` once the process is gone. */
export function readProcStatus(pid: number): ProcStatus | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return undefined;
  }
  const kibibytes = (field: string): number | undefined => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text);
    return found ? Number(found[1]) * 1024 : undefined;
  };
  const rssBytes = kibibytes("VmRSS");
  const anonBytes = kibibytes("RssAnon");
  const peakBytes = kibibytes("VmHWM");
  // A process that has ended but was not waited for has a status without memory.
  if (rssBytes === undefined || anonBytes === undefined || peakBytes === undefined) return undefined;
  return { rssBytes, anonBytes, peakBytes };
}
