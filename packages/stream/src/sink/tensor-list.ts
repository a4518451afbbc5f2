import { quote, TensorwireError } from "@tensorwire/core";
import type { ReceivedTensor } from "./tensors.js";

/**
 * The tensors of a model that was sent as a list, in its order: their names are their places.
 * @throws TensorwireError `SOURCE_MISMATCH` where they have other names; as the model's iterator.
 * @example
 * const weights = await tensorList(receiveModel(url));
 */
export async function tensorList(received: AsyncIterable<ReceivedTensor>): Promise<ReceivedTensor[]> {
  const list: ReceivedTensor[] = [];
  for await (const tensor of received) {
    checkPlace(tensor.name, list.length);
    list.push(tensor);
  }
  return list;
}

/** @throws TensorwireError `SOURCE_MISMATCH`. */
export function checkPlace(name: string, place: number): void {
  if (name === String(place)) return;
  throw new TensorwireError(
    "SOURCE_MISMATCH",
    `tensor ${place} is called ${quote(name)}: this is no list of tensors, but a model whose tensors have names`,
  );
}
