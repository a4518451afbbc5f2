import { randomBytes } from "node:crypto";
import {
  checkLinearCodes,
  checkLinearScale,
  decodeLinearCodes,
  type DType,
  encodeLinearCodes,
  type FloatDType,
  isFloatDType,
  type LinearCodes,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { SourceLike } from "./open.js";
import { type ConvertedRun, ConvertedSource } from "./converted.js";
import type { ModelSource } from "./source.js";

/** How a model becomes codes. All clients of a round take the same `scale` and `bits`. */
export interface LinearCodesOptions {
  /** What a step of one is worth: a code stands for code × scale. */
  readonly scale: number;
  /** Bits of the ring: codes are summed modulo 2^32. */
  readonly ring: 32;
  /** Codes lie between −(2^(bits − 1) − 1) and 2^(bits − 1) − 1; what lies beyond is clamped. 2 to 31; default 16. */
  readonly bits?: number | undefined;
  /** `stochastic` is without bias: over many clients the errors cancel. Default `nearest`. */
  readonly rounding?: "nearest" | "stochastic" | undefined;
  /** With `stochastic`: 16 hexadecimal digits, another one at each client. By default one is drawn. */
  readonly seed?: string | undefined;
}

/** A model as codes. */
export interface LinearCodesSource extends ModelSource {
  /** Elements clamped so far. */
  readonly clamped: number;
}

/**
 * A model whose tensors are U32 codes, to be summed modulo 2^32 under masks: what secure aggregation needs. Every tensor
 * must be of a float dtype, and finite. An artifact's must be as wide as codes are: others are to be unpacked first.
 * @throws TensorwireError `INVALID_ARGUMENT` here for the options, and as a source where a tensor has no codes;
 * `VALUE_NOT_FINITE` where an element has none.
 * @example
 * const codes = linearCodes("update.safetensors", { scale: 2 ** -16, ring: 32, rounding: "stochastic" });
 */
export function linearCodes(source: SourceLike, options: LinearCodesOptions): LinearCodesSource {
  const { scale, ring, bits = 16, rounding = "nearest", seed } = options;
  if (ring !== 32) throw invalid(`codes are summed modulo 2^32: ring is 32, not ${String(ring)}`);
  if (rounding !== "nearest" && rounding !== "stochastic") {
    throw invalid(`rounding is nearest or stochastic, not ${String(rounding)}`);
  }
  if (seed !== undefined && rounding === "nearest") throw invalid("a seed is for stochastic rounding only");
  const drawn = rounding === "stochastic" ? (seed ?? randomBytes(8).toString("hex")) : undefined;
  const codes = { scale, bits, seed: drawn };
  checkLinearCodes(codes);
  return new CodesOfValues(source, codes);
}

/** How sums of codes become values again. */
export interface LinearSumsOptions {
  /** That of `linearCodes`. */
  readonly scale: number;
  /** How many models were summed: values are divided by it, so that they are the mean. Default 1: the sum. */
  readonly clients?: number | undefined;
  /** Of the values. Default F32. */
  readonly dtype?: "F32" | "F64" | undefined;
}

/**
 * The way back: a model of sums of codes, U32 or I32, as the values that they stand for.
 * @throws TensorwireError `INVALID_ARGUMENT` here for the options, and as a source for a tensor of another dtype.
 * @example
 * await streamModel(fromLinearCodes(sums, { scale: 2 ** -16, clients: 10 }), destination);
 */
export function fromLinearCodes(source: SourceLike, options: LinearSumsOptions): ModelSource {
  const { scale, clients = 1, dtype = "F32" } = options;
  checkLinearScale(scale);
  if (!Number.isSafeInteger(clients) || clients < 1) {
    throw invalid(`clients is how many models were summed, not ${String(clients)}`);
  }
  if (dtype !== "F32" && dtype !== "F64") throw invalid(`values are F32 or F64, not ${String(dtype)}`);
  return new ValuesOfCodes(source, { scale, clients, dtype });
}

class CodesOfValues extends ConvertedSource implements LinearCodesSource {
  clamped = 0;

  constructor(
    source: SourceLike,
    private readonly codes: LinearCodes,
  ) {
    super(source);
  }

  protected get parameters(): object {
    return this.codes;
  }

  protected dtypeOf({ name, dtype }: TensorInfo): DType {
    if (isFloatDType(dtype)) return "U32";
    const message = `${dtype} has no codes, and as it is no mask would hide it: leave it out, or send it beside the codes`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { tensor: name });
  }

  protected convert({ tensor, chunk, first, elements, source, target }: ConvertedRun): void {
    const at = { tensor: tensor.name, first };
    const dtype = tensor.dtype as FloatDType;
    const { clamped, nonFinite } = encodeLinearCodes(this.codes, dtype, elements, source, target, at);
    this.clamped += clamped;
    if (nonFinite === undefined) return;
    const message = `element ${first + nonFinite} is NaN, infinite or out of the range of f32, which no code stands for: mend the model`;
    throw new TensorwireError("VALUE_NOT_FINITE", message, { tensor: tensor.name, chunk });
  }
}

/** `LinearSumsOptions`, filled in. */
interface LinearSums {
  readonly scale: number;
  readonly clients: number;
  readonly dtype: "F32" | "F64";
}

class ValuesOfCodes extends ConvertedSource {
  constructor(
    source: SourceLike,
    private readonly options: LinearSums,
  ) {
    super(source);
  }

  protected get parameters(): object {
    return this.options;
  }

  protected dtypeOf({ name, dtype }: TensorInfo): DType {
    if (dtype === "U32" || dtype === "I32") return this.options.dtype;
    throw new TensorwireError("INVALID_ARGUMENT", `sums of codes are U32 or I32, not ${dtype}`, {
      tensor: name,
    });
  }

  protected convert({ elements, source, target }: ConvertedRun): void {
    const { scale, clients, dtype } = this.options;
    decodeLinearCodes(scale, clients, elements, source, dtype, target);
  }
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
