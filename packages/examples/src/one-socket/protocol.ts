import { decode, encode } from "@msgpack/msgpack";
import type { TensorValue } from "@tensorwire/stream";
import type { RawData } from "ws";

/** How weights travel: in one message, as a framework without Tensorwire has them, or as a model beside its messages. */
export type Way = "message" | "channel";

/** A tensor of a model whose tensors have no names. */
export type Weight = TensorValue & { readonly data: Float32Array };

/** What the two ends say to each other, beside the weights themselves. */
export type Message =
  | { readonly type: "ping"; readonly at: number }
  | { readonly type: "weights"; readonly weights: readonly PackedWeight[] };

interface PackedWeight {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export const packed = (message: Message): Uint8Array => encode(message);

export const unpacked = (data: RawData): Message => decode(data as Uint8Array) as Message;

/** The weights as a part of one message. */
export function packWeights(weights: readonly Weight[]): Message {
  const pack = ({ shape, data }: Weight): PackedWeight => ({
    shape,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  });
  return { type: "weights", weights: weights.map(pack) };
}

/** Copied once, so that they begin where floats may. */
export function unpackWeights(weights: readonly PackedWeight[]): Weight[] {
  return weights.map(({ shape, data }) => ({ dtype: "F32", shape, data: floats(new Uint8Array(data)) }));
}

export const floats = ({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array =>
  new Float32Array(buffer, byteOffset, byteLength / 4);

/** What the server makes of a client's weights: here, so that it shows whether they came through. */
export function aggregated(weights: readonly Weight[]): void {
  for (const { data } of weights) for (let i = 0; i < data.length; i++) data[i] = data[i]! / 2;
}

/** What a process tells of itself when it is done. */
export interface Account {
  readonly seconds: number;
  readonly peakRssBytes: number;
  /** The longest that the answer to a small message took meanwhile, in milliseconds. */
  readonly longestPingMs: number;
}
