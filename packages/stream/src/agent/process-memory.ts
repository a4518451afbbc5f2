import { readFile } from "node:fs/promises";

/** What the process has in memory, in bytes, as the system counts it; null where it does not say. */
export interface ProcessMemory {
  readonly rssBytes: number;
  /** Its own, that no file stands behind. */
  readonly anonBytes: number | null;
  readonly fileBytes: number | null;
  readonly shmemBytes: number | null;
}

export async function processMemory(): Promise<ProcessMemory> {
  const text = await readFile("/proc/self/status", "latin1").catch(() => "");
  const bytes = (field: string): number | null => {
    const match = new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(text);
    return match && Number(match[1]) * 1024;
  };
  return {
    rssBytes: bytes("VmRSS") ?? process.memoryUsage.rss(),
    anonBytes: bytes("RssAnon"),
    fileBytes: bytes("RssFile"),
    shmemBytes: bytes("RssShmem"),
  };
}
