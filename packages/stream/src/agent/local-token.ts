import { randomBytes } from "node:crypto";
import { link, open, rm } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { checkToken } from "../door/credential.js";
import { isErrno, targetError } from "../sink/target-error.js";

/** Bits of a mode that let others than the file's user read it, or write a token of their own there. */
const OTHERS = 0o077;

/**
 * The token of the local interface: what stands in the file, or one that is drawn, and written there for this user alone.
 * @throws TensorwireError `INVALID_ARGUMENT`, in which the token does not stand, also for a file that is not one user's alone;
 * `TARGET_WRITE`.
 */
export async function localToken(path: string): Promise<string> {
  const found = await read(path);
  if (found !== undefined) return found;
  const token = randomBytes(32).toString("base64url");
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(draft, "wx", 0o600);
    await file.writeFile(`${token}\n`).finally(() => file.close());
    await link(draft, path);
    return token;
  } catch (cause) {
    // Whoever makes the same file meanwhile has made it.
    const other = isErrno(cause, "EEXIST") ? await read(path) : undefined;
    if (other !== undefined) return other;
    throw targetError(cause, path);
  } finally {
    await rm(draft, { force: true });
  }
}

/** Undefined where there is no file. */
async function read(path: string): Promise<string | undefined> {
  let text: string;
  try {
    const file = await open(path, "r");
    try {
      // Of the file that is read, and not of one that had its name before.
      checkMode(path, (await file.stat()).mode);
      text = await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return undefined;
    if (cause instanceof TensorwireError) throw cause;
    const message = `${quote(path)} cannot be read: ${(cause as Error).message}`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { cause });
  }
  try {
    return checkToken(text.trim());
  } catch (cause) {
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(path)}: ${(cause as Error).message}`, { cause });
  }
}

/** Where there are users: a token that others know is none. */
function checkMode(path: string, mode: number): void {
  if (process.getuid === undefined || (mode & OTHERS) === 0) return;
  const shown = (mode & 0o777).toString(8).padStart(4, "0");
  const message =
    `the token in ${quote(path)} is open to other users (mode ${shown}): chmod 600 it, and draw another one (remove the file) if somebody ` +
    "may have read it; a program of another user gets a copy of its own";
  throw new TensorwireError("INVALID_ARGUMENT", message);
}
