import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { type Listener, type ListenOptions, listen, type Sink, type TensorMap } from "../src/index.js";

export const closers: (() => unknown)[] = [];
export let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-idle-"));
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

export async function listening(options: ListenOptions = {}): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

export const small = { chunkBytes: 32768, windowBytes: 65536 };
export const infos = ["a", "b"].map((name) => ({ name, dtype: "F32" as const, shape: [4096] }));
export const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };

/** Takes chunks only as long as `open` says. */
export function gatedSink(open: Promise<void>): Sink {
  return {
    name: "gated",
    parallel: false,
    open: async () => {},
    write: () => open,
    finish: async () => {},
    abort: async () => {},
  };
}

export const discarding = gatedSink(Promise.resolve());
export const built = existsSync(new URL("../dist/index.js", import.meta.url));
if (!built) console.log("SKIPPED: needs npm run build");
