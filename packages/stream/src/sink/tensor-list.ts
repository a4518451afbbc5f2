import { quote, TensorwireError } from "@tensorwire/core";
import type { ReceivedTensor } from "./tensors.js";

/** A model on its way in, tensor by tensor. */
export interface ArrivingTensors extends AsyncIterable<ReceivedTensor> {
  /** The other end has been told: whoever closes the connection before that leaves it in doubt. */
  readonly done?: Promise<unknown>;
}

/**
 * The tensors of a model that was sent as a list, in its order: their names are their places.
 * @throws TensorwireError `SOURCE_MISMATCH` where they have other names; as the model's iterator.
 * @example
 * const listed = await listen();
 * const list = [{ dtype: "F32", shape: [2], data: Float32Array.of(1, 2) }] as const;
 * const sent = streamModel(list, listed.url);
 * const weights = await tensorList(receiveModel(listed));
 * await sent;
 * console.log(weights.length); // 1
 */
export async function tensorList(received: ArrivingTensors): Promise<ReceivedTensor[]> {
  const list: ReceivedTensor[] = [];
  for await (const tensor of received) {
    checkPlace(tensor.name, list.length);
    list.push(tensor);
  }
  await received.done;
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
