import type { DType } from "@tensorwire/core";
import { TensorwireError } from "@tensorwire/core";
import { type ArrivingTensors, checkPlace } from "./tensor-list.js";
import type { ReceivedTensor } from "./tensors.js";

/** The dtypes of TensorFlow.js that models have. */
export type TfjsDType = "float32" | "int32" | "bool";

/** Makes a tensor: `tf.tensor`. The values are its own from then on. */
export type MakeTensor<T> = (
  values: Float32Array | Int32Array | Uint8Array,
  shape: number[],
  dtype: TfjsDType,
) => T;

/** By its shape: this package knows no TensorFlow.js. */
interface Disposable {
  dispose?(): void;
}

/**
 * What is received, as tensors of TensorFlow.js by name. Each is decoded into the values that its tensor is made of: no other copy is
 * made here, and one tensor at a time is on its way. Where it fails, those that were made are disposed of.
 *
 * @param received `receiveModel(…)`; with `outputDtype: "F32"` where the model is of another float dtype.
 * @throws TensorwireError `INVALID_ARGUMENT` for a dtype that TensorFlow.js does not have; as the model's iterator.
 * @example
 * // not run: needs TensorFlow.js
 * const weights = await tensorflowJsTensors(receiveModel(shared.channel), tf.tensor);
 */
export async function tensorflowJsTensors<T extends object>(
  received: ArrivingTensors,
  make: MakeTensor<T>,
): Promise<Record<string, T>> {
  const made = new Map<string, T>();
  await each(received, make, ({ name }, tensor) => made.set(name, tensor), made.values.bind(made));
  return Object.fromEntries(made);
}

/**
 * The same of a model that was sent as a list, in its order.
 * @throws TensorwireError `SOURCE_MISMATCH` where its tensors have names.
 * @example
 * // not run: needs TensorFlow.js, and a model of it
 * model.setWeights(await tensorflowJsList(receiveModel(shared.channel), tf.tensor));
 */
export async function tensorflowJsList<T extends object>(
  received: ArrivingTensors,
  make: MakeTensor<T>,
): Promise<T[]> {
  const made: T[] = [];
  const take = ({ name }: ReceivedTensor, tensor: T): void => {
    made.push(tensor);
    checkPlace(name, made.length - 1);
  };
  await each(received, make, take, () => made);
  return made;
}

async function each<T extends object>(
  received: ArrivingTensors,
  make: MakeTensor<T>,
  take: (from: ReceivedTensor, tensor: T) => void,
  made: () => Iterable<T>,
): Promise<void> {
  try {
    for await (const tensor of received) {
      const { values, dtype } = valuesOf(tensor);
      take(tensor, make(values, [...tensor.shape], dtype));
    }
    await received.done;
  } catch (error) {
    for (const tensor of made()) (tensor as Disposable).dispose?.();
    throw error;
  }
}

function valuesOf({ name, dtype, data }: ReceivedTensor): {
  readonly values: Float32Array | Int32Array | Uint8Array;
  readonly dtype: TfjsDType;
} {
  const { buffer, byteOffset, byteLength } = data;
  switch (dtype) {
    case "F32":
      return { values: new Float32Array(buffer, byteOffset, byteLength / 4), dtype: "float32" };
    case "I32":
      return { values: new Int32Array(buffer, byteOffset, byteLength / 4), dtype: "int32" };
    case "BOOL":
      return { values: data, dtype: "bool" };
    default:
      throw unknown(name, dtype);
  }
}

function unknown(tensor: string, dtype: DType): TensorwireError {
  const floats: readonly DType[] = ["F16", "BF16", "F64"];
  const advice = floats.includes(dtype) ? 'receive it with outputDtype: "F32"' : "send it as I32 or F32";
  return new TensorwireError("INVALID_ARGUMENT", `TensorFlow.js has no ${dtype}: ${advice}`, { tensor });
}
