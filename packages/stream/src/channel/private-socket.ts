import { chmod, link, lstat, mkdtemp, rename, rm, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname, join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { checkSocketPath } from "./address.js";
import { bound } from "./server.js";

/** A Unix socket that a server listens on. */
export interface PrivateSocket {
  /** Absolute. */
  readonly path: string;
  /** Accepts no more, and removes the file, if it still is the server's. */
  close(): Promise<void>;
}

/**
 * Binds a server to a Unix socket that only its owner may connect to. A file that a dead process left is replaced;
 * one where somebody listens, or that is no socket, is not.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 */
export async function bindPrivately(server: Server, at: string): Promise<PrivateSocket> {
  const path = checkSocketPath(at);
  // Exclusive: workers of a cluster do not share it behind our back.
  const listenAt = (draft: string): Promise<void> =>
    bound(server, quote(path), (done) => server.listen({ path: draft, exclusive: true }, done));
  const found = await bindDraft(path, listenAt).catch((cause: unknown) => {
    server.close();
    if (cause instanceof TensorwireError) throw cause;
    throw cannotListen(path, (cause as Error).message, cause);
  });
  const close = async (): Promise<void> => {
    server.close();
    if (same(await lstat(path).catch(() => undefined), found)) await unlink(path).catch(() => {});
  };
  return { path, close };
}

interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

const same = (a: FileIdentity | undefined, b: FileIdentity): boolean => a?.ino === b.ino && a.dev === b.dev;

/**
 * Binds a draft in a folder of our own, and gives it its name when its permissions are right: a socket that is bound in
 * place could be connected to before that.
 */
async function bindDraft(path: string, bind: (draft: string) => Promise<void>): Promise<FileIdentity> {
  const folder = await mkdtemp(join(dirname(path), ".t"));
  try {
    const draft = checkSocketPath(join(folder, "s"));
    await bind(draft);
    await chmod(draft, 0o600);
    const identity = await lstat(draft);
    await name(draft, path, join(folder, "old"));
    return identity;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Links, since a rename would replace whatever another process has put there meanwhile. */
async function name(draft: string, path: string, aside: string): Promise<void> {
  if (await linked(draft, path)) return;
  const old = await lstat(path);
  if (!old.isSocket()) throw cannotListen(path, "there is a file that is no socket: choose another path");
  if (await answers(path)) throw taken(path);
  await rename(path, aside);
  // Somebody else may have replaced the dead one before us, and this would be theirs.
  if (!same(await lstat(aside), old)) {
    await linked(aside, path);
    throw taken(path);
  }
  if (!(await linked(draft, path))) throw taken(path);
}

/** False where there is something of that name. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Whether somebody listens there, as far as that can be told: only a refusal says that nobody does. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", ({ code }: NodeJS.ErrnoException) => resolve(code !== "ECONNREFUSED"));
  });
}

const taken = (path: string): TensorwireError =>
  cannotListen(path, "somebody listens there already: stop it, or choose another path");

function cannotListen(path: string, why: string, cause?: unknown): TensorwireError {
  return new TensorwireError("CHANNEL_OPEN", `cannot listen on ${quote(path)}: ${why}`, { cause });
}
