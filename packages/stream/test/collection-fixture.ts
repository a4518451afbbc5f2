import { readdir } from "node:fs/promises";
import {
  fromTensors,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  tensorsSource,
} from "../src/index.js";
import { at, folder, serving as servingModels } from "./model-server-fixture.js";

export { at, closers, hasFolder } from "./model-server-fixture.js";

export const ELEMENTS = 60_000;
export const update = (value = 1) => ({
  w: { dtype: "F32" as const, shape: [ELEMENTS], data: new Float32Array(ELEMENTS).fill(value) },
});
export const described = (value: number, metadata: Record<string, string>) =>
  tensorsSource(update(value), { metadata: new Map(Object.entries(metadata)) });

/** Takes uploads into the test's folder. */
export const serving = (options: ModelServerOptions = {}): Promise<ModelServer> =>
  servingModels({ uploads: folder, ...options });

export const CODEC = { codec: "normfloat4", chunkBytes: 32768 };

/** An upload that stops half way, until the rest is let go. */
export function halfway(value = 1) {
  let release!: () => void;
  const rest = new Promise<void>((resolve) => {
    release = resolve;
  });
  const shape = [ELEMENTS];
  const tensors = async function* () {
    const tensor = { dtype: "F32" as const, shape, data: new Float32Array(ELEMENTS).fill(value) };
    yield { name: "a", ...tensor };
    await rest;
    yield { name: "w", ...tensor };
  };
  const infos = ["a", "w"].map((name) => ({ name, dtype: "F32" as const, shape }));
  return { source: () => fromTensors(infos, tensors()), release };
}

/** Names in a round's folder, but for what its record is. */
export async function arrivals(round: string): Promise<string[]> {
  return (await readdir(at(round))).filter((name) => name !== ".round.json").sort();
}

export async function firstValue(path: string): Promise<number> {
  let first: number | undefined;
  for await (const { data } of receiveModel(path)) first ??= new Float32Array(data.slice().buffer)[0]!;
  return first!;
}
