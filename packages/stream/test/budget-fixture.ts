import { type AddressInfo, createServer, connect as dialTcp, type Server, type Socket } from "node:net";
import {
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeManifest,
  type Manifest,
  parseManifest,
} from "@tensorwire/core";
import { afterEach } from "vitest";
import type { ModelSink, TransferSummary } from "../src/index.js";

export const KiB = 1024;
export const CHUNK = 32 * KiB;
export const WINDOW = 16 * CHUNK;

export const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** What a server does with each connection, and what came of it. */
export async function serving(serve: (socket: Socket) => Promise<TransferSummary>) {
  const results: Promise<TransferSummary>[] = [];
  const server: Server = createServer((socket) => {
    const result = serve(socket);
    result.catch(() => {});
    results.push(result);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const connect = (): Socket => {
    const socket = dialTcp(port, "127.0.0.1");
    closers.push(() => socket.destroy());
    return socket;
  };
  return { results, connect };
}

export const sinkOf = (write: ModelSink["write"]): ModelSink => ({
  name: "sink",
  parallel: false,
  async open() {},
  // What has places joins no small writes, for which there would have to be memory too.
  place: () => undefined,
  write,
  async finish() {},
  async abort() {},
});

export const weights = Float32Array.from({ length: (64 * CHUNK) / 4 }, (_, i) => Math.sin(i));
export const model = { weights: { dtype: "F32", shape: [weights.length], data: weights } } as const;
export const manifest: Manifest = {
  kind: "model",
  chunkBytes: CHUNK,
  metadata: new Map(),
  tensors: [{ name: "weights", dtype: "F32", shape: [weights.length], codec: { name: "none" } }],
};
export const plan = parseManifest(encodeManifest(manifest), DEFAULT_LIMITS, defaultCodecs).plan;

export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}
