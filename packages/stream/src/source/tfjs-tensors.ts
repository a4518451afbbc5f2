import {
  type BufferPool,
  type Chunk,
  type DType,
  type Loan,
  type ModelInfo,
  quote,
  TensorwireError,
  unpooled,
} from "@tensorwire/core";
import type { ModelSource } from "./source.js";
import { checkHostData, metadataOf, tensorInfo, type TensorsOptions } from "./tensors.js";

/** A tensor of TensorFlow.js, by its shape: this package does not depend on it. */
export interface TfjsTensorLike {
  /** Dimensions, outermost first. */
  readonly shape: readonly number[];
  /** `float32`, `int32` or `bool`. */
  readonly dtype: string;
  /** Its values: a typed array, or texts, which no model has. */
  data(): Promise<ArrayBufferView | readonly string[]>;
}

/** By name, as `NamedTensorMap`, or a list, whose tensors are named by their places: `0`, `1`, … */
export type TfjsTensors = Readonly<Record<string, TfjsTensorLike>> | readonly TfjsTensorLike[];

const DTYPES: Readonly<Record<string, DType>> = { float32: "F32", int32: "I32", bool: "BOOL" };

/**
 * Tensors of TensorFlow.js as a model. The values of each are asked for when it is its turn (`tensor.data()`), and encoded where they
 * are: of what a backend has to copy out of its memory there is one tensor at a time. They must not be disposed of before the
 * transfer is over.
 *
 * @throws TensorwireError when it is opened: `INVALID_ARGUMENT` for a dtype that models do not have (`string`, `complex64`).
 * @example
 * // not run: needs TensorFlow.js, and a model of it
 * await streamModel(tensorflowJsTensorsSource(model.getWeights()), shared.channel, { codec: "blockwise8" });
 */
export function tensorflowJsTensorsSource(
  tensors: TfjsTensors,
  options: Pick<TensorsOptions, "metadata"> = {},
): ModelSource {
  return new TfjsTensorsSource(tensors, options);
}

class TfjsTensorsSource implements ModelSource {
  readonly name = "tensors of TensorFlow.js";
  readonly #tensors: readonly (readonly [string, TfjsTensorLike])[];
  #infos: ModelInfo["tensors"] = [];
  /** The tensor whose values are here. */
  #at = -1;
  #data: Uint8Array = new Uint8Array(0);

  constructor(
    tensors: TfjsTensors,
    private readonly options: Pick<TensorsOptions, "metadata">,
  ) {
    // The keys of a list are its places.
    this.#tensors = Object.entries(tensors);
  }

  async open(): Promise<ModelInfo> {
    this.#infos = this.#tensors.map(([name, { shape, dtype }]) => {
      const known = Object.hasOwn(DTYPES, dtype) ? DTYPES[dtype] : undefined;
      if (known) return tensorInfo({ name, dtype: known, shape: [...shape] });
      const message = `TensorFlow.js' ${quote(dtype)} is no dtype of a model: leave that tensor out, or cast it`;
      throw new TensorwireError("INVALID_ARGUMENT", message, { tensor: name });
    });
    return { kind: "model", tensors: this.#infos, metadata: metadataOf(this.options.metadata) };
  }

  async read({ tensor, offset, bytes }: Chunk, _pool: BufferPool): Promise<Loan> {
    if (tensor !== this.#at) await this.#take(tensor);
    return unpooled(this.#data.subarray(offset, offset + bytes));
  }

  async #take(tensor: number): Promise<void> {
    this.#at = -1;
    const [name, source] = this.#tensors[tensor]!;
    let data: unknown;
    try {
      data = await source.data();
    } catch (cause) {
      const message = `its values cannot be had: ${(cause as Error).message}`;
      throw new TensorwireError("SOURCE_READ", message, { tensor: name, cause, retryable: false });
    }
    this.#data = checkHostData(this.#infos[tensor]!, data);
    this.#at = tensor;
  }

  async close(): Promise<void> {
    this.#at = -1;
    this.#data = new Uint8Array(0);
  }
}
