import { type ErrorCode, quote, TensorwireError } from "@tensorwire/core";

/** What the system says when there is no room, and what to do then. */
const FULL: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on its disk: free some, or choose another place",
  EDQUOT: "its owner's disk quota is used up: free some, or choose another place",
  EFBIG:
    "it is larger than its file system, or this process's limit (ulimit -f), allows: choose another place, or raise it",
};

const REFUSED: Readonly<Record<string, string>> = {
  EACCES: "permission is denied: change the folder's permissions, or choose another place",
  EPERM:
    "the system does not permit it: change the folder's permissions or attributes, or choose another place",
  EROFS: "its file system is read-only: choose another place",
  ENOENT:
    "its folder does not exist, or the unfinished file was removed from it: create the folder, and start again",
  ENOTDIR: "a part of its path is a file, not a folder: choose another path",
  EISDIR: "it is a folder: name a file in it",
  ELOOP: "its path has symbolic links that lead in a circle: choose another path",
  ENAMETOOLONG:
    "its name, with `.part.lock` after it, is longer than the file system takes: choose a shorter one",
  EMFILE: "this process has too many files open: raise its limit (ulimit -n)",
  ENFILE: "the system has too many files open: close some",
};

/** What a failed system call on a destination means to its user. A TensorwireError stays what it is. */
export function targetError(cause: unknown, path: string, doing = "cannot write"): TensorwireError {
  if (cause instanceof TensorwireError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const full = code === undefined ? undefined : FULL[code];
  const refused = code === undefined ? undefined : REFUSED[code];
  const kind: ErrorCode = full ? "TARGET_FULL" : "TARGET_WRITE";
  return new TensorwireError(kind, `${doing} ${quote(path)}: ${full ?? refused ?? message}`, { cause });
}

/** Whether `error` is a failure of the system with one of these codes. */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code !== undefined && codes.includes(code);
}
