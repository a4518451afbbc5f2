import { type Manifest, type ModelInfo, quote, type TensorInfo, TensorwireError } from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";
import { openSource, type SourceLike } from "../source/open.js";

/** What models have to be: one's description, or a model itself, of which no more is read than that. */
export type ExpectedModel = SourceLike | Pick<ModelInfo, "tensors">;

/** The key of a model's metadata that says for which round it was made. */
export const ROUND_KEY = "round";

/** @throws TensorwireError as opening it does. */
export async function expectedTensors(
  model: ExpectedModel,
  settings: ResolvedOptions,
): Promise<readonly TensorInfo[]> {
  if (isDescription(model)) return model.tensors;
  const source = await openSource(model, {}, settings);
  try {
    return (await source.open()).tensors;
  } finally {
    await source.close();
  }
}

function isDescription(model: ExpectedModel): model is Pick<ModelInfo, "tensors"> {
  return typeof model === "object" && "tensors" in model && Array.isArray(model.tensors);
}

/** So many differences are told. */
const TOLD = 3;

/**
 * Looks whether a model is what a round collects, before any of its data comes.
 * @param expected None where it may be any model.
 * @throws TensorwireError `SOURCE_MISMATCH` that says what differs.
 */
export function checkUpdate(
  { kind, tensors, metadata }: Manifest,
  round: string,
  expected: readonly TensorInfo[] | undefined,
): void {
  const named = metadata.get(ROUND_KEY);
  if (named !== undefined && named !== round) {
    throw mismatch(`it says that it is of round ${quote(named)}, and this is ${quote(round)}`);
  }
  if (kind !== "model") throw mismatch("it is a raw file, and no model");
  if (!expected) return;
  const own = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const differences: string[] = [];
  for (const wanted of expected) {
    const found = own.get(wanted.name);
    own.delete(wanted.name);
    if (!found) differences.push(`it has no ${quote(wanted.name)}`);
    else if (shown(found) !== shown(wanted)) {
      differences.push(`${quote(wanted.name)} is ${shown(found)}, and should be ${shown(wanted)}`);
    }
  }
  for (const name of own.keys()) differences.push(`${quote(name)} is not in the model`);
  if (differences.length === 0) return;
  const more = differences.length > TOLD ? `, and ${differences.length - TOLD} more` : "";
  throw mismatch(`${differences.slice(0, TOLD).join("; ")}${more}`);
}

const shown = ({ dtype, shape }: TensorInfo): string => `${dtype} [${shape}]`;

const mismatch = (why: string): TensorwireError =>
  new TensorwireError("SOURCE_MISMATCH", `this is not the model that is collected here: ${why}`);
