import { mkdir } from "node:fs/promises";
import { beforeEach } from "vitest";
import { receiveModel, type TensorMap } from "../src/index.js";
import { at, hasFolder } from "./model-server-fixture.js";

export { at, serving } from "./model-server-fixture.js";

export const ELEMENTS = 60_000;
export const model = (value = 1): TensorMap => ({
  w: { dtype: "F32", shape: [ELEMENTS], data: new Float32Array(ELEMENTS).fill(value) },
});

export let spool: string;

/** Registers a folder of each test's own with a spool in it, and closes the test's servers. */
export function hasSpool(): void {
  hasFolder();
  beforeEach(async () => {
    spool = at("spool");
    await mkdir(spool);
  });
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
