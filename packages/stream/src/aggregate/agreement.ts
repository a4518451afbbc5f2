import { quote, type TensorInfo, TensorwireError } from "@tensorwire/core";
import { BASE_KEY } from "../compute/base.js";
import type { ClientModel } from "./client-model.js";
import { exampleCount, NUM_EXAMPLES } from "./client-weights.js";

/**
 * Checks that all clients have the same tensors, in whatever order, and tells each where those of the first are in its model.
 * @throws TensorwireError `SOURCE_MISMATCH` that names client and tensor.
 */
export function agreeOnTensors(clients: readonly ClientModel[]): readonly TensorInfo[] {
  const [first, ...others] = clients;
  const tensors = first!.info.tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  first!.places = tensors.map((_, i) => i);
  for (const client of others) client.places = placesIn(client, tensors, first!.id);
  return tensors;
}

function placesIn(client: ClientModel, tensors: readonly TensorInfo[], firstId: string): number[] {
  const own = client.info.tensors;
  const mismatch = (tensor: string, message: string): TensorwireError => {
    const who = `client ${quote(client.id)}: ${message}: leave the client out, or have all clients send one model`;
    return new TensorwireError("SOURCE_MISMATCH", who, { tensor });
  };
  let at: Map<string, number> | undefined;
  const places = tensors.map(({ name, dtype, shape }, i) => {
    if (own[i]?.name !== name) at ??= new Map(own.map((tensor, place) => [tensor.name, place]));
    const place = own[i]?.name === name ? i : at!.get(name);
    if (place === undefined) throw mismatch(name, `it has no such tensor, and ${quote(firstId)} has`);
    const found = own[place]!;
    if (found.dtype !== dtype || found.shape.join() !== shape.join()) {
      const was = `${found.dtype} [${found.shape}]`;
      throw mismatch(name, `it is ${was}, and ${dtype} [${shape}] of ${quote(firstId)}`);
    }
    if (place !== i && client.oneShot) {
      throw mismatch(name, `it is read once, and in another order than ${quote(firstId)}`);
    }
    return place;
  });
  if (own.length > tensors.length) {
    const names = new Set(tensors.map(({ name }) => name));
    const more = own.find(({ name }) => !names.has(name)) ?? own.at(-1)!;
    throw mismatch(more.name, `${quote(firstId)} has no such tensor`);
  }
  return places;
}

/**
 * The chunk size that all have whose chunks are what they are, if there are any.
 * @throws TensorwireError `SOURCE_MISMATCH`.
 */
export function agreeOnChunks(clients: readonly ClientModel[]): number | undefined {
  const [first, ...others] = clients.filter(({ chunkBytes }) => chunkBytes !== undefined);
  const other = others.find(({ chunkBytes }) => chunkBytes !== first!.chunkBytes);
  if (!other) return first?.chunkBytes;
  throw new TensorwireError(
    "SOURCE_MISMATCH",
    `client ${quote(other.id)}: its artifact is in chunks of ${other.chunkBytes} bytes, and that of ${quote(first!.id)} of ${first!.chunkBytes}: have all clients send with one chunkBytes`,
  );
}

/** Deltas of different models have no mean that could be added to one. @throws TensorwireError `BASE_MISMATCH`. */
export function agreeOnBase(clients: readonly ClientModel[]): void {
  const [first, ...others] = clients;
  const base = first!.info.metadata.get(BASE_KEY);
  const other = others.find(({ info }) => info.metadata.get(BASE_KEY) !== base);
  if (!other) return;
  const words = [base, other.info.metadata.get(BASE_KEY)].map((each) =>
    each === undefined ? "none" : quote(each),
  );
  const message = `client ${quote(other.id)}: its metadata name the base ${words[1]}, and those of ${quote(first!.id)} ${words[0]}: they are of different rounds; leave the client out`;
  throw new TensorwireError("BASE_MISMATCH", message);
}

/** What all metadata say alike; and of examples, how many they are together, where each says how many. */
export function commonMetadata(clients: readonly ClientModel[]): Map<string, string> {
  const [first, ...others] = clients.map(({ info }) => info.metadata);
  const common = new Map(
    [...first!].filter(([key, value]) => others.every((each) => each.get(key) === value)),
  );
  common.delete(NUM_EXAMPLES);
  const counts = clients.map(({ info }) => exampleCount(info.metadata.get(NUM_EXAMPLES) ?? ""));
  if (counts.some((count) => count === undefined)) return common;
  const sum = counts.reduce<number>((total, count) => total + count!, 0);
  return Number.isFinite(sum) ? common.set(NUM_EXAMPLES, String(sum)) : common;
}
