import {
  type Answer,
  type BufferPool,
  byteLength,
  type Chunk,
  type DType,
  type FloatDType,
  isDType,
  isFloatDType,
  type Loan,
  type ModelInfo,
  NamePatterns,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { ComputedSource } from "./computed.js";
import { filled } from "./elementwise.js";
import { type Computed, type ComputeOptions, Input } from "./input.js";

/** The dtype of every tensor of floats; or of those that a pattern over names matches: the first one that does decides. */
export type CastDTypes = FloatDType | Readonly<Record<string, FloatDType>>;

/**
 * A model in other float dtypes, as `outputDtype` converts at a receiver: to binary32 and then to the dtype, to nearest even
 * both times; what lies beyond its range becomes infinite. Tensors of other dtypes, and those that no pattern matches, stay as
 * they are.
 * @throws TensorwireError `INVALID_ARGUMENT` here for what are no such dtypes, and, when the source is opened, for a pattern
 * that matches no tensor.
 * @example cast("model.safetensors", { "*norm*": "F32", "*": "BF16" })
 */
export function cast<S extends SourceLike>(
  source: S,
  dtypes: CastDTypes,
  options?: ComputeOptions,
): Computed<S>;
export function cast(source: SourceLike, dtypes: CastDTypes, options: ComputeOptions = {}): ModelSource {
  return new Cast(new Input(source, options), rulesOf(dtypes));
}

/** Without a pattern it is for every tensor, be there any or none. */
type Rule = readonly [pattern: string | undefined, dtype: FloatDType];

function rulesOf(dtypes: CastDTypes): readonly Rule[] {
  const rules: readonly Rule[] =
    typeof dtypes === "object" && dtypes !== null ? Object.entries(dtypes) : [[undefined, dtypes]];
  for (const [, dtype] of rules) {
    if (isDType(dtype) && isFloatDType(dtype)) continue;
    const message = `tensors are cast to F16, BF16, F32 or F64, not ${quote(String(dtype))}`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  return rules;
}

class Cast extends ComputedSource {
  readonly name: string;
  #tensors: readonly TensorInfo[] = [];

  constructor(
    private readonly input: Input,
    private readonly rules: readonly Rule[],
  ) {
    super([input]);
    this.name = input.name;
  }

  protected get parameters(): readonly unknown[] {
    return ["cast 1", this.rules];
  }

  async open(): Promise<ModelInfo> {
    const { kind, tensors, metadata } = await this.input.open();
    const names = tensors.map(({ name }) => name);
    const chosen = this.rules.map(([pattern]) =>
      pattern === undefined ? names.map(() => true) : new NamePatterns([pattern]).choose(names, this.name),
    );
    this.#tensors = tensors.map((tensor, i) => {
      const rule = chosen.findIndex((is) => is[i]);
      return rule < 0 || !isFloatDType(tensor.dtype) ? tensor : { ...tensor, dtype: this.rules[rule]![1] };
    });
    this.opened(this.#tensors, [{ input: this.input, places: tensors.map((_, i) => i) }]);
    return { kind, tensors: this.#tensors, metadata };
  }

  read(chunk: Chunk, pool: BufferPool): Answer<Loan> {
    const { tensor } = chunk;
    const [from, to] = [this.input.info, { tensors: this.#tensors }].map(
      ({ tensors }) => tensors[tensor]!.dtype,
    );
    return from === to ? this.input.read(chunk, tensor, pool) : this.#converted(chunk, from!, to!, pool);
  }

  #converted(chunk: Chunk, dtype: DType, output: DType, pool: BufferPool): Promise<Loan> {
    const { backend } = this.input;
    return filled(chunk, pool, (target) =>
      this.runs[0]!.each(chunk, chunk.tensor, pool, async (payload, at, elements) => {
        await backend.decode({
          ...{ codec: { name: "none" }, dtype, elements, output },
          payload,
          target: target.subarray(byteLength(output, at), byteLength(output, at + elements)),
        });
      }),
    );
  }
}
