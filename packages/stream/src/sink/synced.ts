import { type FileHandle, open } from "node:fs/promises";
import { isErrno } from "./target-error.js";

// Some network and user-space file systems have no such call.
const NO_CALL = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];
const NO_FOLDER_CALL = [...NO_CALL, "EPERM", "EISDIR", "EACCES"];

/** Makes a file durable. */
export function syncFile(handle: FileHandle): Promise<void> {
  return tolerant(handle.sync());
}

/** Makes a file's bytes durable, and of the rest what it takes to find them. */
export function syncData(handle: FileHandle): Promise<void> {
  return tolerant(handle.datasync());
}

async function tolerant(call: Promise<void>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!isErrno(error, ...NO_CALL)) throw error;
  }
}

/** Makes names durable. Where folders cannot be opened or synced (Windows, some file systems) the system sees to it. */
export async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await open(path, "r");
    await folder.sync();
  } catch (error) {
    if (!isErrno(error, ...NO_FOLDER_CALL)) throw error;
  } finally {
    await folder?.close();
  }
}
