import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type EncodedSink, receiveModel, transferModel } from "../src/index.js";
import { CliProcess, makeSparseModel } from "./cli-process.js";

const MIB = 2 ** 20;
const MODEL = 128 * MIB;
const CHUNK = 2 * MIB;
const RECEIVERS = 16;
/** Of a connection, beside chunks: its socket, WebSocket and session, and what is garbage of those. */
const CONNECTION = MIB;

const hasProc = process.platform === "linux";
if (!hasProc) console.log("SKIPPED: needs /proc, to see what a process has in memory");

let dir: string;
let server: CliProcess;
let url: string;
const wires: { server: Server; sockets: Socket[] }[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "tensorwire-crowd-"));
  await makeSparseModel(join(dir, "m.safetensors"), MODEL);
  await mkdir(join(dir, "models"));
  const model = join(dir, "m.safetensors");
  await transferModel(model, join(dir, "models/four-bits.twire"), { codec: "normfloat4" });
  await transferModel(model, join(dir, "models/exact.twire"), { chunkBytes: CHUNK });
  server = new CliProcess(["serve", join(dir, "models"), "--listen", "127.0.0.1:0", "--quiet"]);
  url = await server.url();
});
afterAll(async () => {
  server.child.kill("SIGKILL");
  for (const wire of wires) {
    wire.server.close();
    for (const socket of wire.sockets) socket.destroy();
  }
  await rm(dir, { recursive: true });
});

async function memory(field: "VmHWM" | "VmRSS"): Promise<number> {
  const text = await readFile(`/proc/${server.child.pid}/status`, "latin1");
  return Number(new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(text)![1]) * 1024;
}

/** Takes everything, and keeps nothing. */
const nowhere = (): EncodedSink => ({
  name: "nowhere",
  open: async () => {},
  writeEncoded: () => undefined,
  finish: async () => {},
  abort: async () => {},
});

/** A way to the server on which nothing comes back any more once so many bytes have. */
async function wireThatStops(bytes: number): Promise<{ url: string; stopped: Promise<void> }> {
  const { port, pathname } = new URL(`${url}exact.twire`);
  const sockets: Socket[] = [];
  let stop: () => void;
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  const wire = createServer((client) => {
    const up = connect(Number(port), "127.0.0.1");
    let passed = 0;
    sockets.push(client, up);
    for (const socket of [client, up]) socket.on("error", () => {});
    client.pipe(up);
    up.on("data", (portion: Buffer) => {
      client.write(portion);
      passed += portion.length;
      if (passed < bytes) return;
      up.pause();
      stop();
    });
  });
  wires.push({ server: wire, sockets });
  wire.listen(0, "127.0.0.1");
  await once(wire, "listening");
  return { url: `ws://127.0.0.1:${(wire.address() as AddressInfo).port}${pathname}`, stopped };
}

test.skipIf(!hasProc)(
  "a server holds a chunk once for all who are at it, and two for each who is elsewhere",
  async () => {
    const fetched = () => receiveModel(`${url}four-bits.twire`, { to: nowhere() }).done;
    await fetched();
    const alone = await memory("VmHWM");
    await Promise.all(Array.from({ length: RECEIVERS }, fetched));
    const together = (await memory("VmHWM")) - alone;
    // Receivers that keep step with each other have a few chunks in hand, all of them together.
    expect(together / RECEIVERS / MIB).toBeLessThan(2);
    const before = await memory("VmRSS");
    const stops = Array.from({ length: RECEIVERS }, (_, i) => ((i + 1) * MODEL) / (RECEIVERS + 1));
    for (const bytes of stops) {
      const { url, stopped } = await wireThatStops(bytes);
      receiveModel(url, { to: nowhere() }).done.catch(() => {});
      await stopped;
    }
    const apart = (await memory("VmHWM")) - before;
    // A receiver that stands still has the chunk that is being sent and the next one.
    expect(apart / RECEIVERS / MIB).toBeLessThan((2 * CHUNK + CONNECTION) / MIB);
    // And what was measured were receivers that do.
    expect(apart / RECEIVERS / MIB).toBeGreaterThan(CHUNK / MIB);
  },
);
