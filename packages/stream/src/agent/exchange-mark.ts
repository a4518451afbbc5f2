import { randomUUID } from "node:crypto";
import { lstat, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { readRecord, writeRecord } from "../server/record-file.js";
import { isErrno, targetError } from "../sink/target-error.js";

/** The folder in an exchange directory that is the agent's own: what is published, and request bodies. */
export const OWN_FOLDER = ".models";

const MARK = ".exchange";
const IDENTITY = ".identity";
const MarkSchema = v.object({ tensorwire: v.literal("exchange") });

/**
 * Takes a folder for exchange. What lies there is removed some day, so it has to be one that an agent has marked, or an empty one,
 * which is marked then: nobody's files are in it but those that are meant for an agent.
 * @throws TensorwireError `TARGET_EXISTS` where there are others; `FORBIDDEN` where the agent's folder is a link, or another
 * user's; `TARGET_WRITE`.
 */
export async function takeExchange(path: string): Promise<void> {
  const own = join(path, OWN_FOLDER);
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    if (!(await isOwn(own))) {
      refuse(path, await readdir(path));
      await mkdir(own, { mode: 0o700 });
    } else {
      if (await readRecord(join(own, MARK), MarkSchema)) return;
      // As an agent leaves it that was killed before it could mark it.
      const strangers = (await readdir(path)).filter((name) => name !== OWN_FOLDER);
      refuse(path, [...strangers, ...(await readdir(own)).filter((name) => !name.startsWith("."))]);
    }
    await writeRecord(join(own, MARK), { tensorwire: "exchange" });
  } catch (cause) {
    throw targetError(cause, path);
  }
}

/**
 * Says which directory this is: a program in another container, say, may see another one under the same path, and looks whether it
 * reads there what the agent says. Drawn anew at each start, so that one that was copied is another one.
 * @throws TensorwireError `TARGET_WRITE`, `TARGET_FULL`.
 */
export async function identifyExchange(path: string): Promise<string> {
  const identity = randomUUID();
  await writeRecord(join(path, OWN_FOLDER, IDENTITY), identity);
  return identity;
}

/** Whatever lies in it is removed if it is no model's: it had better be no link to somewhere else, and nobody else's. */
async function isOwn(path: string): Promise<boolean> {
  const stats = await lstat(path).catch((cause) => {
    if (isErrno(cause, "ENOENT")) return undefined;
    throw cause;
  });
  if (!stats) return false;
  if (stats.isDirectory() && (process.getuid === undefined || stats.uid === process.getuid())) return true;
  const message = `${quote(path)} is no folder of this user: choose another exchange directory (--exchange)`;
  throw new TensorwireError("FORBIDDEN", message);
}

function refuse(path: string, strangers: readonly string[]): void {
  const [first] = strangers;
  if (first === undefined) return;
  const message =
    `${quote(path)} cannot be the exchange directory: no agent has marked it, and there is ${quote(first)} in it already, where an agent ` +
    "removes models that nobody frees: give it an empty folder, or a new one (--exchange); files that are to be published from " +
    "that folder stay where it is allowed (--allow)";
  throw new TensorwireError("TARGET_EXISTS", message);
}
