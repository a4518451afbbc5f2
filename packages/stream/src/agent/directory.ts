import { mkdir } from "node:fs/promises";
import { Lock } from "../sink/lock.js";
import { targetError } from "../sink/target-error.js";

/**
 * Makes the agent's own folder where there is none, and takes it for this process.
 * @throws TensorwireError `TARGET_BUSY`, `TARGET_WRITE`.
 */
export async function openDirectory(path: string, lock: string): Promise<Lock> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw targetError(cause, path);
  }
  return Lock.take(lock, path);
}
