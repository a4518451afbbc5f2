import {
  addElements,
  type Answer,
  type BufferPool,
  type Chunk,
  type DType,
  type FloatDType,
  isFloatDType,
  type Loan,
  type ModelInfo,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { BASE_KEY, type BaseOptions, baseDigest, checkBaseDigest, placesIn } from "./base.js";
import { ComputedSource } from "./computed.js";
import { combined } from "./elementwise.js";
import { type Computed, Input } from "./input.js";

/** Options of `apply`. */
export interface ApplyOptions extends BaseOptions {
  /** Take any base that has the delta's tensors, and look at no digest. Default false. */
  readonly anyBase?: boolean | undefined;
}

/**
 * The model that a delta was made of: base and delta, element by element, in binary32 (F64 in binary64), in the base's dtypes.
 * Tensors that are of no float dtype are the delta's, whole. Its metadata is the delta's, without the base's digest. Where that
 * is another one than `base` has, it is refused: `base` is read once for its digest when the source is opened, unless
 * `baseDigest` says it.
 * @throws TensorwireError `INVALID_ARGUMENT` here for the options; as a source `BASE_MISMATCH` for another base,
 * `SOURCE_MISMATCH` where the two have not the same tensors or the delta is none, and what reading them throws.
 * @example await streamModel(apply("round-7.twire", "update.twire"), "round-8.twire");
 */
export function apply<B extends SourceLike, D extends SourceLike>(
  base: B,
  delta: D,
  options?: ApplyOptions,
): Computed<B | D>;
export function apply(base: SourceLike, delta: SourceLike, options: ApplyOptions = {}): ModelSource {
  checkBaseDigest(options.baseDigest);
  return new Applied(new Input(base, options), new Input(delta, options), options);
}

class Applied extends ComputedSource {
  readonly name: string;
  #tensors: readonly TensorInfo[] = [];
  /** Of the base; none of tensors that are the delta's whole. */
  #places: readonly (number | undefined)[] = [];

  constructor(
    private readonly base: Input,
    private readonly delta: Input,
    private readonly options: ApplyOptions,
  ) {
    super([base, delta]);
    this.name = `${base.name} with ${delta.name}`;
  }

  protected get parameters(): readonly unknown[] {
    return ["apply 1"];
  }

  async open(): Promise<ModelInfo> {
    const { base, delta } = this;
    const { kind, tensors, metadata } = await delta.open();
    await base.open();
    const places = placesIn(base, delta, isHalfOf);
    const dtypeOf = (place: number): DType => base.info.tensors[place]!.dtype;
    this.#places = places.map((place) => (isFloatDType(dtypeOf(place)) ? place : undefined));
    this.#tensors = tensors.map((tensor, i) => ({ ...tensor, dtype: dtypeOf(places[i]!) }));
    this.opened(this.#tensors, [
      { input: base, places: this.#places },
      { input: delta, places: tensors.map((_, i) => i) },
    ]);
    await this.#check(metadata.get(BASE_KEY));
    const others = new Map(metadata);
    others.delete(BASE_KEY);
    return { kind, tensors: this.#tensors, metadata: others };
  }

  /** Before a chunk of either is read. */
  async #check(named: string | undefined): Promise<void> {
    const { base, delta, options } = this;
    if (options.anyBase) return;
    if (named === undefined) {
      const message = `${quote(delta.name)} is no delta: its metadata has no ${BASE_KEY}; if it is one all the same, apply it with anyBase`;
      throw new TensorwireError("SOURCE_MISMATCH", message);
    }
    const own = await baseDigest(base, options);
    if (own === named) return;
    const message = `${quote(delta.name)} is a delta of ${quote(named)}, and ${quote(base.name)} is ${own}: apply it to its own base, or get the whole model`;
    throw new TensorwireError("BASE_MISMATCH", message);
  }

  read(chunk: Chunk, pool: BufferPool): Answer<Loan> {
    const { tensor } = chunk;
    const place = this.#places[tensor];
    if (place === undefined) return this.delta.read(chunk, tensor, pool);
    const dtype = this.#tensors[tensor]!.dtype as FloatDType;
    const own = this.delta.info.tensors[tensor]!.dtype as FloatDType;
    const one = { runs: this.runs[0]!, tensor: place, dtype };
    const other = { runs: this.runs[1]!, tensor, dtype: own };
    return combined(chunk, dtype, [one, other], addElements, pool);
  }
}

/** A delta of 16 bits may be in 32: `DeltaOptions.dtype`. */
function isHalfOf(base: DType, delta: DType): boolean {
  return delta === "F32" && (base === "F16" || base === "BF16");
}
