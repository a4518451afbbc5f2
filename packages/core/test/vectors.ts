import { readFileSync } from "node:fs";
import type { CodecSpec, DType } from "../src/index.js";

// bitsandbytes' own results, as data: see vectors/README.md for what they are, vectors/PROVENANCE.md for where they are
// from. The tests of other packages read them from here too.

const directory = new URL("./vectors/", import.meta.url);

/** A run of a vector file; `dtype` in the index's own spelling. */
export interface TensorReference {
  readonly file: string;
  readonly offset: number;
  readonly dtype: "f32" | "u8" | "f16" | "bf16";
  readonly count: number;
}

interface CaseEntry {
  readonly id: string;
  readonly input: string;
  readonly codec: "blockwise8" | "fp4" | "nf4";
  readonly blocksize: number;
  readonly n: number;
  readonly codes: TensorReference;
  readonly absmax: TensorReference;
  readonly dequant_f32: TensorReference;
  readonly dequant_native?: TensorReference;
}

interface DecodeEntry extends Omit<CaseEntry, "input" | "dequant_native"> {
  readonly dequant_f16: TensorReference;
  readonly dequant_bf16: TensorReference;
}

interface NestedEntry extends CaseEntry {
  readonly offset: TensorReference;
  readonly nested_codes: TensorReference;
  readonly nested_absmax: TensorReference;
  readonly absmax_restored: TensorReference;
}

export interface VectorIndex {
  readonly codebooks: Readonly<Record<string, TensorReference>>;
  readonly inputs: Readonly<Record<string, { tensor: TensorReference; flags: readonly string[] }>>;
  readonly cases: readonly CaseEntry[];
  readonly decode: readonly DecodeEntry[];
  readonly nested: readonly NestedEntry[];
  readonly files: Readonly<Record<string, { bytes: number; sha256: string }>>;
}

export const vectorIndex = JSON.parse(readFileSync(new URL("index.json", directory), "utf8")) as VectorIndex;

/** Files of the index that this repository does not keep. */
export const LEFT_OUT = ["secondary.bin"];

const files = new Map<string, Uint8Array>();

export function vectorFile(name: string): Uint8Array {
  let bytes = files.get(name);
  if (bytes === undefined) files.set(name, (bytes = readFileSync(new URL(name, directory))));
  return bytes;
}

const WIDTH = { f32: 4, u8: 1, f16: 2, bf16: 2 };
const DTYPE = { f32: "F32", u8: "U8", f16: "F16", bf16: "BF16" } as const;
const CODEC = { blockwise8: "blockwise8", fp4: "float4", nf4: "normfloat4" };

/** The referenced elements, as a copy of their bytes. */
export function vectorBytes({ file, offset, dtype, count }: TensorReference): Uint8Array {
  return Uint8Array.from(vectorFile(file).subarray(offset, offset + count * WIDTH[dtype]));
}

export function vectorFloats(reference: TensorReference): Float32Array {
  return new Float32Array(vectorBytes(reference).buffer);
}

/** What a payload decodes to in one dtype. */
export interface Decoded {
  readonly output: DType;
  readonly bytes: Uint8Array;
}

export interface DecodeVector {
  readonly id: string;
  readonly codec: CodecSpec;
  /** The dtype of the source. */
  readonly dtype: DType;
  readonly elements: number;
  /** Scales (absmax), then codes. */
  readonly payload: Uint8Array;
  readonly decoded: readonly Decoded[];
}

export interface QuantizeVector extends DecodeVector {
  readonly source: Uint8Array;
  /** NaN or infinity among the source: compare NaN with NaN. */
  readonly nonFinite: boolean;
}

function decoded(...references: (TensorReference | undefined)[]): Decoded[] {
  return references
    .filter((reference) => reference !== undefined)
    .map((reference) => ({ output: DTYPE[reference.dtype], bytes: vectorBytes(reference) }));
}

function payload(entry: CaseEntry | DecodeEntry): Uint8Array {
  return Uint8Array.from([...vectorBytes(entry.absmax), ...vectorBytes(entry.codes)]);
}

/** The primary cases: quantize `source`, get `payload`; decode that, get `decoded`. */
export function quantizeVectors(): QuantizeVector[] {
  return vectorIndex.cases.map((entry) => {
    const { tensor, flags } = vectorIndex.inputs[entry.input]!;
    return {
      id: entry.id,
      codec: { name: CODEC[entry.codec], block: entry.blocksize },
      dtype: DTYPE[tensor.dtype],
      elements: entry.n,
      source: vectorBytes(tensor),
      payload: payload(entry),
      decoded: decoded(entry.dequant_f32, entry.dequant_native),
      nonFinite: flags.includes("nonfinite"),
    };
  });
}

/** Arbitrary codes and scales, and what they decode to. */
export function decodeVectors(): DecodeVector[] {
  return vectorIndex.decode.map((entry) => ({
    id: entry.id,
    codec: { name: CODEC[entry.codec], block: entry.blocksize },
    dtype: "F32",
    elements: entry.n,
    payload: payload(entry),
    decoded: decoded(entry.dequant_f32, entry.dequant_f16, entry.dequant_bf16),
  }));
}

export interface NestedVector extends QuantizeVector {
  /** The scales as they were before they were stored in 8 bits, and as they come back. */
  readonly scales: Float32Array;
  readonly restored: Float32Array;
  /** What bitsandbytes takes from all scales: the mean of the tensor's, summed in an order of its own. */
  readonly offset: number;
}

/** bitsandbytes' double quantization: `payload` is the vector's offset, nested scales, nested codes and codes. */
export function nestedVectors(): NestedVector[] {
  return vectorIndex.nested.map((entry) => {
    const parts = [entry.offset, entry.nested_absmax, entry.nested_codes, entry.codes];
    return {
      id: entry.id,
      codec: { name: CODEC[entry.codec], block: entry.blocksize, nested: true },
      dtype: "F32",
      elements: entry.n,
      source: vectorBytes(vectorIndex.inputs[entry.input]!.tensor),
      payload: Uint8Array.from(parts.flatMap((part) => [...vectorBytes(part)])),
      decoded: decoded(entry.dequant_f32),
      nonFinite: false,
      scales: vectorFloats(entry.absmax),
      restored: vectorFloats(entry.absmax_restored),
      offset: vectorFloats(entry.offset)[0]!,
    };
  });
}
