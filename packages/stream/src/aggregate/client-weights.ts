import { quote, TensorwireError } from "@tensorwire/core";
import type { AggregateOptions, AggregateRule } from "./aggregate-options.js";
import type { AggregateReport } from "./aggregate-report.js";
import type { ClientModel } from "./client-model.js";

/** The metadata key that says how many examples a client has trained on. */
export const NUM_EXAMPLES = "num_examples";

/** What each client counts, and why. */
export interface ClientWeights {
  readonly weighting: AggregateReport["weighting"];
  /** None of a client whose metadata say something else than a positive number. */
  readonly weights: readonly (number | undefined)[];
}

/**
 * @throws TensorwireError `INVALID_ARGUMENT` for weights that were given, `SOURCE_MISMATCH` where some say how many examples
 * they have, and others do not.
 */
export function clientWeights(
  clients: readonly ClientModel[],
  { method, weights: given }: AggregateRule,
): ClientWeights {
  if (method !== "mean") return { weighting: "equal", weights: clients.map(() => 1) };
  if (given !== undefined) return { weighting: "given", weights: givenWeights(clients, given) };
  const stated = clients.map(({ info }) => info.metadata.get(NUM_EXAMPLES));
  const without = clients.filter((_, i) => stated[i] === undefined);
  if (without.length === clients.length) return { weighting: "equal", weights: clients.map(() => 1) };
  if (without.length) {
    const ids = without.slice(0, 8).map(({ id }) => quote(id));
    const message = `metadata ${NUM_EXAMPLES} is missing of ${ids.join(", ")}, and others have it: give weights, or have all clients say it`;
    throw new TensorwireError("SOURCE_MISMATCH", message);
  }
  return { weighting: "num_examples", weights: stated.map((text) => exampleCount(text!)) };
}

function givenWeights(
  clients: readonly ClientModel[],
  given: NonNullable<AggregateOptions["weights"]>,
): number[] {
  if (Array.isArray(given) && given.length !== clients.length) {
    throw invalid(`there are ${given.length} weights for ${clients.length} clients`);
  }
  return clients.map(({ id }) => {
    const weight =
      given instanceof Map ? given.get(id) : Object.hasOwn(given, id) ? Object(given)[id] : undefined;
    if (typeof weight === "number" && weight > 0 && Number.isFinite(weight)) return weight;
    const found = weight === undefined ? "there is none" : `not ${String(weight)}`;
    throw invalid(`the weight of client ${quote(id)} is to be a positive number: ${found}`);
  });
}

/** The number that a client's metadata say, if it is one: decimal, finite and positive. */
export function exampleCount(text: string): number | undefined {
  // As long as JavaScript writes any number: an aggregate of aggregates reads what it has written itself.
  if (!/^\d{1,24}(\.\d{1,24})?(e[+-]?\d{1,3})?$/.test(text)) return undefined;
  const number = Number(text);
  return number > 0 && Number.isFinite(number) ? number : undefined;
}

/** Weights that add up to one. */
export function normalized(weights: readonly number[]): number[] {
  // By the greatest first: no sum of finite ones is out of range.
  const greatest = Math.max(...weights);
  const parts = weights.map((weight) => weight / greatest);
  const sum = parts.reduce((total, part) => total + part, 0);
  return parts.map((part) => part / sum);
}

/** Weights that are none too large to be multiplied and summed: all times one power of two, where one of them is. */
export function shares(weights: readonly number[]): readonly number[] {
  const beyond = Math.floor(Math.log2(Math.max(...weights))) - 52;
  return beyond > 0 ? weights.map((weight) => weight * 2 ** -beyond) : weights;
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
