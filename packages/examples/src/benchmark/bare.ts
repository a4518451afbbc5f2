import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { BareWayName } from "./bare/way.js";
import type { Contender } from "./contender.js";

/** A file to bring over, and where to. */
export interface BareTransfer {
  readonly name: string;
  readonly source: string;
  readonly scratch: string;
  readonly rounds?: number;
}

const program = fileURLToPath(new URL("./bare/end.js", import.meta.url));

/** A small Node program at each end, which imports what its way needs. */
export function bareNode(way: BareWayName, transfer: BareTransfer): Contender {
  const end = (role: string, path: string) => ({ argv: [process.execPath, program, way, role, path] });
  const target = targetOf(transfer);
  return {
    ...kept(transfer),
    commands: () => ({ sender: end("send", transfer.source), receiver: end("receive", target) }),
  };
}

export const hasSocat = (): boolean => spawnSync("socat", ["-V"]).status === 0;

/** The file through `socat -u` at both ends, with buffers of that many bytes. */
export async function socat(bufferBytes: number, transfer: BareTransfer): Promise<Contender> {
  const port = await freePort();
  const argv = (from: string, to: string) => ({ argv: ["socat", "-u", "-b", String(bufferBytes), from, to] });
  return {
    ...kept(transfer),
    commands: () => ({
      sender: argv(`OPEN:${transfer.source},rdonly`, `TCP:127.0.0.1:${port}`),
      receiver: argv(
        `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr`,
        `OPEN:${targetOf(transfer)},creat,wronly`,
      ),
    }),
    async listening(signal) {
      while (!listens(port)) await sleep(1, undefined, { signal });
    },
  };
}

const targetOf = ({ scratch }: BareTransfer): string => join(scratch, "target.copy");

function kept(transfer: BareTransfer): Omit<Contender, "commands"> {
  const { name, rounds, source } = transfer;
  const target = targetOf(transfer);
  return {
    name,
    ...(rounds !== undefined && { rounds }),
    async check() {
      await promisify(execFile)("cmp", [source, target]);
    },
    clear: () => rm(target, { force: true }),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Looked up, since a connection on trial would be the one that is accepted. */
function listens(port: number): boolean {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  return readFileSync("/proc/net/tcp", "latin1").includes(local);
}
