import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TensorwireError } from "@tensorwire/core";
import { afterAll, afterEach, beforeAll } from "vitest";
import {
  type Listener,
  listen,
  type ReceiveOptions,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
} from "../src/index.js";

export let folder: string;
const listeners: Listener[] = [];
export const at = (name: string): string => join(folder, name);

/** Registers a folder of the tests' own, and closes each test's listeners. */
export function hasFolder(): void {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-integrity-"));
  });
  afterEach(async () => {
    for (const listener of listeners.splice(0)) await listener.close();
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
}

/** What packs, what does not, what falls back, what is empty, and more than one chunk. */
export function tensors(): TensorMap {
  const noise = Float32Array.from({ length: 30_000 }, (_, i) => Math.sin(i * 12.9898) * 43758.5453);
  return {
    smooth: { dtype: "F32", shape: [20_000], data: Float32Array.from({ length: 20_000 }, (_, i) => i / 8) },
    noise: { dtype: "F32", shape: [30_000], data: noise },
    hole: { dtype: "F32", shape: [9000], data: noise.slice(0, 9000).fill(Number.NaN, 10, 11) },
    none: { dtype: "F32", shape: [0], data: new Float32Array(0) },
    bytes: { dtype: "U8", shape: [70_000], data: new Uint8Array(70_000).fill(3) },
  };
}

export const STRONG = { chunkBytes: 32768, minElements: 0, integrity: "sha256" } as const;

export async function overTcp(
  send: StreamOptions,
  receive: ReceiveOptions,
  source: TensorMap | string = tensors(),
) {
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  listeners.push(listener);
  const receiving = receiveModel(listener, receive);
  const [sent, received] = await Promise.allSettled([
    streamModel(source, listener.url, send),
    receive.to === undefined ? drained(receiving) : receiving.done,
  ]);
  return { sent, received };
}

async function drained(receiving: ReturnType<typeof receiveModel>) {
  for await (const _ of receiving);
  return receiving.done;
}

export const fulfilled = <T>(result: PromiseSettledResult<T>): T => {
  if (result.status === "rejected") throw result.reason;
  return result.value;
};
export const rejected = (result: PromiseSettledResult<unknown>): TensorwireError =>
  (result as PromiseRejectedResult).reason as TensorwireError;
