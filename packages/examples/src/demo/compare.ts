import { type DType, memoryChannelPair, receiveModel, streamModel } from "@tensorwire/stream";
import { SafetensorsReader } from "./safetensors-reader.js";
import { type ErrorFigures, ErrorSums } from "./tensor-error.js";

/** A tensor beside its original. */
export interface TensorComparison extends ErrorFigures {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface Comparison {
  readonly tensors: readonly TensorComparison[];
  /** Over the tensors that are not exactly the original's: one constant of -1e9 in a model would hide all errors. */
  readonly changed: ErrorFigures;
}

/**
 * Compares a model with what a transfer made of it, tensor by tensor and chunk by chunk: neither is ever whole in memory.
 * The original is read by a transfer too, an exact one within this process, which knows every format.
 * @throws Error where the two are not the same tensors.
 */
export async function compareModels(original: string, received: string): Promise<Comparison> {
  const [out, back] = memoryChannelPair();
  const sending = streamModel(original, out, { codec: "none" });
  sending.catch(() => {});
  const reader = await SafetensorsReader.open(received);
  try {
    const model = receiveModel(back);
    const sums = new Map<string, ErrorSums>();
    for await (const { name, dtype, offset, data } of model.chunks()) {
      const other = await reader.read(name, offset, new Uint8Array(data.byteLength));
      let tensor = sums.get(name);
      if (!tensor) sums.set(name, (tensor = new ErrorSums()));
      tensor.add(elements(dtype, data), elements(dtype, other));
    }
    await Promise.all([sending, model.done]);
    const { tensors } = await model.manifest;
    if (tensors.length !== reader.entries.size) {
      throw new Error(`${tensors.length} tensors became ${reader.entries.size}`);
    }
    const changed = new ErrorSums();
    for (const tensor of sums.values()) if (!tensor.figures.exact) changed.merge(tensor);
    return {
      tensors: tensors.map(({ name, dtype, shape }) => {
        checkInfo(reader, name, dtype, shape);
        return { name, dtype, shape, ...(sums.get(name) ?? new ErrorSums()).figures };
      }),
      changed: changed.figures,
    };
  } finally {
    await reader.close();
  }
}

function checkInfo(reader: SafetensorsReader, name: string, dtype: DType, shape: readonly number[]): void {
  const info = reader.entries.get(name)?.info;
  if (info?.dtype === dtype && `${info.shape}` === `${shape}`) return;
  throw new Error(
    `tensor ${name} was ${dtype} [${shape}], and is ${info ? `${info.dtype} [${info.shape}]` : "not there"}`,
  );
}

/** The elements as numbers; of a dtype that the demo's model does not have, its bytes. */
function elements(dtype: DType, bytes: Uint8Array): ArrayLike<number> {
  if (dtype !== "F32" && dtype !== "I32") return bytes;
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const length = aligned.byteLength / 4;
  return dtype === "F32"
    ? new Float32Array(aligned.buffer, aligned.byteOffset, length)
    : new Int32Array(aligned.buffer, aligned.byteOffset, length);
}
