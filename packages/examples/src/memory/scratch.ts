import { rmSync } from "node:fs";
import { mkdtemp, statfs } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";

/** What a program needs a place for. */
export interface ScratchNeeds {
  /** In files. */
  readonly bytes: number;
  /** In the memory of the processes beside them: a tmpfs lives in the same memory. */
  readonly memoryBytes: number;
}

/** A directory for large files, gone when the program ends. */
export interface Scratch {
  readonly path: string;
  remove(): void;
}

/** A directory in memory where it has room, else on disk; `undefined` where neither has. */
export async function openScratch({ bytes, memoryBytes }: ScratchNeeds): Promise<Scratch | undefined> {
  const inMemory = (await freeBytes("/dev/shm")) >= bytes && freemem() >= bytes + memoryBytes;
  const root = inMemory ? "/dev/shm" : tmpdir();
  if (!inMemory && (await freeBytes(root)) < bytes) return undefined;
  const path = await mkdtemp(join(root, "tensorwire-"));
  const remove = (): void => {
    rmSync(path, { recursive: true, force: true });
    process.off("exit", remove);
  };
  // Files of gigabytes in memory outlive the process: also when it is interrupted.
  process.on("exit", remove);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  return { path, remove };
}

async function freeBytes(directory: string): Promise<number> {
  const stats = await statfs(directory).catch(() => undefined);
  return stats ? stats.bavail * stats.bsize : 0;
}
