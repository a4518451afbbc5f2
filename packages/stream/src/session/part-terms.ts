import { type Channel, TensorwireError } from "@tensorwire/core";

/**
 * Whether a part of a model can come over a channel: it has to be asked for, and whoever takes the other parts has seen the model
 * in the state that was announced first.
 * @throws TensorwireError `INVALID_ARGUMENT`, `SOURCE_CHANGED`.
 */
export function checkPart({ kind, direction }: Channel, sameState: boolean): void {
  if (direction !== "both") {
    const message = `a ${kind} channel without a way back brings all of a model, and nothing can be asked for: leave concurrency out`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  if (sameState) return;
  const message = "the source is in another state than the one that this part is of: begin anew";
  throw new TensorwireError("SOURCE_CHANGED", message);
}
