import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { ModelInfo } from "@tensorwire/core";
import {
  createModelServer,
  duplexChannel,
  type ModelServerOptions,
  type ModelSource,
  type ServedTransfer,
  streamModel,
  type TensorMap,
  transferModel,
} from "../src/index.js";
import { cleanup, folder } from "./sink-fixture.js";

export const KiB = 1024;
export const CHUNK = 64 * KiB;
export const WINDOW = 16 * CHUNK;
export const small = { windowBytes: WINDOW } as const;
const weights = Float32Array.from({ length: 40 * (CHUNK / 4) }, (_, i) => Math.sin(i * 12.9898));

export const model = {
  ...Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [
      `bias.${i}`,
      { dtype: "F32", shape: [i], data: weights.subarray(i, 2 * i) } as const,
    ]),
  ),
  weights: { dtype: "F32", shape: [weights.length], data: weights },
  ids: { dtype: "I32", shape: [5], data: Int32Array.of(1, 2, 3, 4, 5) },
} as const;

export const published = { chunkBytes: CHUNK, codec: "blockwise8", version: "one" } as const;

export async function serving(options: ModelServerOptions = {}) {
  const server = await createModelServer(options);
  cleanup(() => void server.close({ signal: AbortSignal.abort() }));
  const transfers: ServedTransfer[] = [];
  server.on("transfer", (transfer) => {
    transfers.push(transfer);
    transfer.done.catch(() => {});
  });
  server.publish("m", model, published);
  return { server, transfers };
}

/** A bare TCP server, which does with each connection as the test says. */
export async function perConnection(serve: (socket: Socket, nth: number) => unknown) {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    void Promise.resolve(serve(socket, connections++)).catch(() => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanup(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { url: `tcp://127.0.0.1:${port}`, port, connections: () => connections };
}

export const send = (socket: Socket, options: object = {}, tensors: TensorMap = model) =>
  streamModel(tensors, duplexChannel(socket), { ...published, ...small, ...options });

/** What one connection brings. */
export async function whole(tensors: TensorMap = model): Promise<Buffer> {
  const at = folder();
  await transferModel(tensors, join(at, "m.twire"), published);
  return readFileSync(join(at, "m.twire"));
}

/** A model of so many chunks that is as the test says. */
export function sourceOf(chunks: number, of: Partial<ModelSource>): ModelSource {
  const info: ModelInfo = {
    kind: "model",
    tensors: [{ name: "weights", dtype: "F32", shape: [chunks * (CHUNK / 4)] }],
    metadata: new Map(),
  };
  return {
    name: "the source",
    version: "one",
    open: async () => info,
    read: (chunk, pool) => pool.lend(chunk.bytes),
    close: async () => {},
    ...of,
  } as ModelSource;
}
