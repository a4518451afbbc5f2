import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import {
  type Listener,
  listen,
  memoryChannelPair,
  type ReceivedModel,
  receiveModel,
  streamModel,
  type TensorValue,
} from "../src/index.js";
import { BreakingProxy } from "./breaking-proxy.js";
import { checksLoans } from "./loans-fixture.js";

const closers: (() => unknown)[] = [];
export let folder: string;
export const at = (name: string): string => join(folder, name);

// The last to look: what is registered first runs last.
checksLoans();
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-retry-"));
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true, force: true });
});

export const CHUNK = 32_768;
export const WINDOW = 4 * CHUNK;
export const sizes = { chunkBytes: CHUNK, windowBytes: WINDOW, minElements: 0 } as const;
export const quick = { initialDelayMs: 1, maxDelayMs: 4 } as const;
export type Model = Record<string, TensorValue & { readonly data: Float32Array }>;

export function model(names: readonly string[] = ["a", "b", "empty", "c", "d"]): Model {
  return Object.fromEntries(
    names.map((name, t) => {
      const elements = name === "empty" ? 0 : 30_000 + 17 * t;
      const data = new Float32Array(elements).map((_, i) => Math.sin(i * 12.9898 + t) * (1 + (i % 7)));
      return [name, { dtype: "F32", shape: [elements], data }];
    }),
  );
}

export const BYTES = Object.values(model()).reduce((sum, { data }) => sum + data.byteLength, 0);

export async function listening(): Promise<Listener> {
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  closers.push(() => listener.close());
  return listener;
}

export async function proxied(listener: Listener, budgets: readonly number[]): Promise<BreakingProxy> {
  const proxy = await BreakingProxy.open(Number(new URL(listener.url).port), budgets);
  closers.push(() => proxy.close());
  return proxy;
}

export type Bytes = Map<string, Uint8Array>;

const bytesOf = (tensors: Model): Bytes =>
  new Map(Object.entries(tensors).map(([name, { data }]) => [name, new Uint8Array(data.buffer)]));

export async function iterated(received: ReceivedModel): Promise<Bytes> {
  const found: Bytes = new Map();
  for await (const { name, data } of received) found.set(name, data.slice());
  return found;
}

/** The model of a file. */
export async function stored(path: string): Promise<Bytes> {
  const [out, back] = memoryChannelPair();
  const sending = streamModel(path, out);
  const found = await iterated(receiveModel(back));
  await sending;
  await out.close();
  return found;
}

// Not by toEqual: it looks at each byte by itself.
export function expectSame(found: PromiseSettledResult<Bytes>, tensors: Model): void {
  if (found.status === "rejected") throw found.reason;
  const expected = bytesOf(tensors);
  expect([...found.value.keys()].toSorted()).toEqual([...expected.keys()].toSorted());
  for (const [name, bytes] of expected) {
    expect(Buffer.compare(found.value.get(name)!, bytes), name).toBe(0);
  }
}
