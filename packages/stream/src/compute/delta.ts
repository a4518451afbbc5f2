import {
  type Answer,
  type BufferPool,
  type Chunk,
  type DType,
  type FloatDType,
  isFloatDType,
  type Loan,
  type ModelInfo,
  subtractElements,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { BASE_KEY, type BaseOptions, baseDigest, checkBaseDigest, placesIn } from "./base.js";
import { ComputedSource } from "./computed.js";
import { combined } from "./elementwise.js";
import { type Computed, Input } from "./input.js";

/** Options of `delta`. */
export interface DeltaOptions extends BaseOptions {
  /** `F32` gives the differences of F16 and BF16 that dtype: nothing of them is rounded away. Default: each the model's own. */
  readonly dtype?: "F32" | undefined;
}

/**
 * What a model has beyond another one, its base: the differences of its tensors of floats, element by element, in binary32
 * (F64 in binary64). Tensors of other dtypes are the model's, whole. Its metadata is the model's, with the base's digest
 * (`modelDigest`) under the key `tensorwire.base`: to find that, the base is read once when the delta is opened, unless
 * `baseDigest` says it.
 * @throws TensorwireError `INVALID_ARGUMENT` here for the options; as a source `SOURCE_MISMATCH` where the two have not the same
 * tensors, and what reading them throws.
 * @example await streamModel(delta("trained.safetensors", "round-7.twire"), destination, { codec: "normfloat4" });
 */
export function delta<M extends SourceLike, B extends SourceLike>(
  model: M,
  base: B,
  options?: DeltaOptions,
): Computed<M | B>;
export function delta(model: SourceLike, base: SourceLike, options: DeltaOptions = {}): ModelSource {
  const { dtype } = options;
  checkBaseDigest(options.baseDigest);
  if (dtype !== undefined && dtype !== "F32") {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `a delta's dtype is F32, or left out, not ${String(dtype)}`,
    );
  }
  return new Delta(new Input(model, options), new Input(base, options), options);
}

class Delta extends ComputedSource {
  readonly name: string;
  #tensors: readonly TensorInfo[] = [];
  /** Of the base; none of tensors that are the model's whole. */
  #places: readonly (number | undefined)[] = [];

  constructor(
    private readonly model: Input,
    private readonly base: Input,
    private readonly options: DeltaOptions,
  ) {
    super([model, base]);
    this.name = `${model.name} less ${base.name}`;
  }

  protected get parameters(): readonly unknown[] {
    return ["delta 1", this.options.dtype];
  }

  async open(): Promise<ModelInfo> {
    const { model, base } = this;
    const { kind, tensors, metadata } = await model.open();
    await base.open();
    const places = placesIn(base, model);
    this.#places = places.map((place, i) => (isFloatDType(tensors[i]!.dtype) ? place : undefined));
    this.#tensors = tensors.map((tensor) => ({ ...tensor, dtype: this.#dtypeOf(tensor) }));
    this.opened(this.#tensors, [
      { input: model, places: tensors.map((_, i) => i) },
      { input: base, places: this.#places },
    ]);
    const named = new Map(metadata).set(BASE_KEY, await baseDigest(base, this.options));
    return { kind, tensors: this.#tensors, metadata: named };
  }

  #dtypeOf({ dtype }: TensorInfo): DType {
    return dtype === "F16" || dtype === "BF16" ? (this.options.dtype ?? dtype) : dtype;
  }

  read(chunk: Chunk, pool: BufferPool): Answer<Loan> {
    const { tensor } = chunk;
    const place = this.#places[tensor];
    if (place === undefined) return this.model.read(chunk, tensor, pool);
    const dtype = this.model.info.tensors[tensor]!.dtype as FloatDType;
    const output = this.#tensors[tensor]!.dtype as FloatDType;
    const minuend = { runs: this.runs[0]!, tensor, dtype };
    const subtrahend = { runs: this.runs[1]!, tensor: place, dtype };
    return combined(chunk, output, [minuend, subtrahend], subtractElements, pool);
  }
}
