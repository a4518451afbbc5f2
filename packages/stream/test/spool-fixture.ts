import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import {
  createModelServer,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  type TensorMap,
} from "../src/index.js";

export const ELEMENTS = 60_000;
export const model = (value = 1): TensorMap => ({
  w: { dtype: "F32", shape: [ELEMENTS], data: new Float32Array(ELEMENTS).fill(value) },
});

export let spool: string;
let folder: string;
const closers: (() => unknown)[] = [];
export const at = (name: string): string => join(folder, name);

/** Registers a folder of each test's own with a spool in it, and closes the test's servers. */
export function hasSpool(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-spool-"));
    spool = at("spool");
    await mkdir(spool);
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

/** The first value of the model's first tensor, and what the transfer was. */
export async function fetched(url: string) {
  const model = receiveModel(url);
  let value: number | undefined;
  for await (const { data } of model) value ??= new Float32Array(data.slice().buffer)[0]!;
  const { digest, codecs } = await model.done;
  return { value, digest, codecs: Object.keys(codecs) };
}

export const CHUNKS = { chunkBytes: 32768 };
