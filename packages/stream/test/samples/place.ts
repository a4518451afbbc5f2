import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeAuthority } from "../certificates.js";
import { openHub, writeFiles } from "./stage.mjs";

/** Where samples run: their files, the servers that they speak of, and an environment in which those are believed. */
export interface Place {
  readonly folder: string;
  readonly files: string;
  readonly hub: { readonly plain: number; readonly secure: number };
  readonly env: NodeJS.ProcessEnv;
  close(): Promise<void>;
}

export async function openPlace(): Promise<Place> {
  // Outside of the repository: a socket's path is short.
  const folder = await mkdtemp(join(tmpdir(), "samples-"));
  const files = join(folder, "files");
  const authority = makeAuthority();
  await mkdir(files);
  await writeFiles(files, authority);
  const hub = await openHub(files, authority);
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: join(files, "ca.pem"), NODE_NO_WARNINGS: "1" };
  const close = async (): Promise<void> => {
    await hub.close();
    await rm(folder, { recursive: true, force: true });
  };
  return { folder, files, hub, env, close };
}

/** Ports that nobody has, each with the next one. */
export async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const first = await listenAt(0);
    const port = (first.address() as { port: number }).port;
    const second = await listenAt(port + 1).catch(() => undefined);
    if (second) found.push(port);
    for (const server of [first, second]) if (server) await new Promise((done) => server.close(done));
  }
  return found;
}

async function listenAt(port: number): Promise<ReturnType<typeof createServer>> {
  const server = createServer();
  await new Promise<void>((done, fail) => server.once("error", fail).listen(port, "127.0.0.1", done));
  return server;
}
