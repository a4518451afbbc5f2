import type { TensorInfo } from "@tensorwire/core";
import { fromTensors, type ReceivedModel, type SourceLike, type Tensor } from "@tensorwire/stream";
import { elementsOf } from "../model/noise-model.js";
import { fillNoise } from "../model/noise.js";
import type { EndJob } from "./end-job.js";
import { largestBytes } from "./models.js";

const F32_BYTES = 4;

/** A sending caller's model of noise, and how much of it that caller holds at once. */
export interface HeldModel {
  readonly source: SourceLike;
  readonly bytes: number;
}

export function holdModel(tensors: readonly TensorInfo[], held: EndJob["held"] = "one"): HeldModel {
  if (held === "one") return { source: fromTensors(tensors, inTurn(tensors)), bytes: largestBytes(tensors) };
  const model = new Map<string, Tensor>();
  let bytes = 0;
  for (const [index, info] of tensors.entries()) {
    const data = new Float32Array(elementsOf(info));
    fillNoise(data, index);
    model.set(info.name, { ...info, data });
    bytes += data.byteLength;
  }
  return { source: model, bytes };
}

/** As a caller does whose tensors come from somewhere else: each is made when it is asked for, in one buffer. */
function* inTurn(tensors: readonly TensorInfo[]): Generator<Tensor> {
  const buffer = new Float32Array(largestBytes(tensors) / F32_BYTES);
  for (const [index, info] of tensors.entries()) {
    const data = buffer.subarray(0, elementsOf(info));
    fillNoise(data, index);
    yield { ...info, data };
  }
}

/** A receiving caller. @returns how many bytes of the model it held at once. */
export async function takeModel(model: ReceivedModel, taken: EndJob["taken"] = "tensors"): Promise<number> {
  let most = 0;
  if (taken === "chunks") {
    // Lent, of the window: the caller holds none of its own.
    for await (const { data } of model.chunks()) if (data.byteLength === 0) throw new Error("an empty chunk");
    return 0;
  }
  const kept: Uint8Array[] = [];
  for await (const { data } of model) {
    if (taken === "all") kept.push(data);
    else most = Math.max(most, data.byteLength);
  }
  return kept.reduce((sum, { byteLength }) => sum + byteLength, most);
}
