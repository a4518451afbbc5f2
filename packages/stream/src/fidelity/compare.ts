import {
  type DType,
  differingElements,
  type ErrorFigures,
  ErrorSums,
  elementCount,
  isFloatDType,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { SourceLike } from "../source/open.js";
import { ModelReader, type ReadingOptions } from "./model-reader.js";
import { TensorCursor } from "./tensor-cursor.js";

/** A tensor, or a model, as one of the two has it. */
export interface ComparedSide {
  /** Bytes that it takes: of an artifact its payloads, as they travel. */
  readonly bytes: number;
  /** The same in bits an element; 0 where there are no elements. */
  readonly bitsPerWeight: number;
}

/** A tensor of one model beside that of the other. */
export interface TensorComparison {
  /** Of the tensor. */
  readonly name: string;
  /** The same in both. */
  readonly shape: readonly number[];
  /** How many. */
  readonly elements: number;
  /** The first model's. */
  readonly a: ComparedSide & { readonly dtype: DType };
  /** The other's. */
  readonly b: ComparedSide & { readonly dtype: DType };
  /** Elements that are not the same. */
  readonly differing: number;
  /** How far `b` is from `a`; of float dtypes only. */
  readonly error?: ErrorFigures;
}

/** One model beside another. */
export interface Comparison {
  /** In the order in which they were read. */
  readonly tensors: readonly TensorComparison[];
  /** Of all tensors together. */
  readonly total: {
    readonly a: ComparedSide;
    readonly b: ComparedSide;
    /** Elements that are not the same, of all dtypes. */
    readonly differing: number;
    /** Over all float tensors. */
    readonly error: ErrorFigures;
    /**
     * Over the float tensors that differ: a constant of −1e9 that stayed as it was would hide every error of the others.
     */
    readonly changed: ErrorFigures & { readonly tensors: number };
  };
}

/**
 * Compares two models tensor by tensor, `b` with `a`, the original. Neither is ever whole in memory: there is a chunk of
 * each, with what it was decoded from. They must have the same tensors, by name and shape; dtypes may differ where both are F16, BF16, F32 or
 * F64. Artifacts are decoded.
 * @throws TensorwireError `SOURCE_MISMATCH` where they have not the same tensors, and as reading a model does.
 * @example
 * const { total } = await compareModels("model.safetensors", "model.twire");
 * console.log(total.changed.snrDb, total.b.bitsPerWeight);
 */
export async function compareModels(
  a: SourceLike,
  b: SourceLike,
  options: ReadingOptions = {},
): Promise<Comparison> {
  const original = await ModelReader.open(a, options);
  try {
    const other = await ModelReader.open(b, options);
    try {
      return await new ModelComparison(original, other).run();
    } finally {
      await other.close();
    }
  } finally {
    await original.close();
  }
}

/** The places of one tensor in the two models. */
interface Pair {
  readonly a: number;
  readonly b: number;
}

class ModelComparison {
  readonly #total = new ErrorSums();
  readonly #changed = new ErrorSums();
  #changedTensors = 0;

  constructor(
    private readonly a: ModelReader,
    private readonly b: ModelReader,
  ) {}

  async run(): Promise<Comparison> {
    const tensors: TensorComparison[] = [];
    for (const pair of this.#order(this.#pairs())) tensors.push(await this.#tensor(pair));
    await this.a.verify();
    await this.b.verify();
    const elements = tensors.reduce((sum, tensor) => sum + tensor.elements, 0);
    const side = (which: "a" | "b"): ComparedSide =>
      sideOf(
        tensors.reduce((sum, tensor) => sum + tensor[which].bytes, 0),
        elements,
      );
    return {
      tensors,
      total: {
        a: side("a"),
        b: side("b"),
        differing: tensors.reduce((sum, { differing }) => sum + differing, 0),
        error: this.#total.figures,
        changed: { tensors: this.#changedTensors, ...this.#changed.figures },
      },
    };
  }

  /** Every tensor of the one with that of the other, in the order of `a`. */
  #pairs(): Pair[] {
    const places = new Map(this.b.info.tensors.map(({ name }, i) => [name, i]));
    const pairs = this.a.info.tensors.map((info, a) => {
      const b = places.get(info.name);
      if (b === undefined) throw this.#mismatch(`is in ${quote(this.a.name)} only`, info.name);
      this.#check(info, this.b.info.tensors[b]!);
      places.delete(info.name);
      return { a, b };
    });
    const [left] = places.keys();
    if (left !== undefined) throw this.#mismatch(`is in ${quote(this.b.name)} only`, left);
    return pairs;
  }

  #check(a: TensorInfo, b: TensorInfo): void {
    const [one, other] = [a, b].map(({ dtype, shape }) => `${dtype} [${shape.join(", ")}]`);
    const sameShape = `${a.shape}` === `${b.shape}`;
    if (sameShape && (a.dtype === b.dtype || (isFloatDType(a.dtype) && isFloatDType(b.dtype)))) return;
    const why = sameShape ? "these dtypes are not compared with one another" : "their shapes differ";
    throw this.#mismatch(
      `${one} in ${quote(this.a.name)}, ${other} in ${quote(this.b.name)}: ${why}`,
      a.name,
    );
  }

  /** The order that both can be read in. */
  #order(pairs: readonly Pair[]): readonly Pair[] {
    if (this.b.anyOrder || pairs.every(({ b }, i) => b === i)) return pairs;
    if (this.a.anyOrder) return pairs.toSorted((one, other) => one.b - other.b);
    throw this.#mismatch(
      "both models are sources of the caller's, which are read in their own order, and the two orders differ",
    );
  }

  async #tensor({ a, b }: Pair): Promise<TensorComparison> {
    const { name, shape, dtype } = this.a.info.tensors[a]!;
    const other = this.b.info.tensors[b]!.dtype;
    const elements = elementCount(shape);
    const sums = new ErrorSums();
    let differing = 0;
    const left = new TensorCursor(this.a, a);
    const right = new TensorCursor(this.b, b);
    try {
      for (let done = 0; done < elements; ) {
        const x = await left.held();
        const y = await right.held();
        const count = Math.min(x.elements, y.elements);
        if (isFloatDType(dtype) && isFloatDType(other)) {
          sums.add({ dtype, ...x }, { dtype: other, ...y }, count);
        } else differing += differingElements(dtype, x, y, count);
        left.skip(count);
        right.skip(count);
        done += count;
      }
    } finally {
      left.release();
      right.release();
    }
    const result = {
      name,
      shape,
      elements,
      a: { dtype, ...sideOf(this.a.storedBytes(a), elements) },
      b: { dtype: other, ...sideOf(this.b.storedBytes(b), elements) },
    };
    if (!isFloatDType(dtype)) return { ...result, differing };
    const error = sums.figures;
    this.#total.merge(sums);
    if (error.differing) {
      this.#changedTensors++;
      this.#changed.merge(sums);
    }
    return { ...result, differing: error.differing, error };
  }

  #mismatch(message: string, tensor?: string): TensorwireError {
    return new TensorwireError("SOURCE_MISMATCH", message, { tensor });
  }
}

function sideOf(bytes: number, elements: number): ComparedSide {
  return { bytes, bitsPerWeight: elements ? (8 * bytes) / elements : 0 };
}
