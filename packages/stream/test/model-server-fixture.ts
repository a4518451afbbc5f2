import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import {
  createModelServer,
  type ModelServer,
  type ModelServerOptions,
  type ModelSink,
  receiveModel,
  type TensorMap,
} from "../src/index.js";

export const model = (value = 1): TensorMap => ({
  w: { dtype: "F32", shape: [1000], data: new Float32Array(1000).fill(value) },
});

export let folder: string;
export const closers: (() => unknown)[] = [];
export const at = (...names: string[]): string => join(folder, ...names);

/** Registers a folder of each test's own, and closes the test's servers. */
export function hasFolder(): void {
  beforeEach(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), "tensorwire-server-")));
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    await rm(folder, { recursive: true });
  });
}

export async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer(options);
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  return server;
}

/** What the model of that URL holds: the first value of each tensor. */
export async function fetched(url: string, token?: string): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for await (const { name, data } of receiveModel(url, { dial: { token } })) {
    values[name] = new Float32Array(data.slice().buffer)[0]!;
  }
  return values;
}

/** A sink that takes nothing until it is told to. */
export function held(): { sink: ModelSink; release(): void } {
  let release!: () => void;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const sink: ModelSink = {
    name: "a sink that waits",
    parallel: false,
    open: async () => {},
    write: () => released,
    finish: async () => {},
    abort: async () => release(),
  };
  return { sink, release };
}

/** Begins to fetch, and is in the middle of it when this resolves. */
export async function fetching(
  url: string,
  token?: string,
): Promise<{ done: Promise<unknown>; release(): void }> {
  const { sink, release } = held();
  const { done, manifest } = receiveModel(url, { to: sink, dial: { token } });
  done.catch(() => {});
  await manifest;
  return { done, release };
}

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
