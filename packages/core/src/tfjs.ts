import { f16ToF32Bits } from "./codec/float-bits.js";
import { byteLength, type DType } from "./dtype.js";
import { quote, TensorwireError } from "./errors.js";
import { relativePathFault } from "./file-name.js";
import { JsonReader } from "./json-reader.js";
import { elementCount, type TensorInfo } from "./tensor.js";

/** How a quantized weight lies in its file: `q × scale + min` for the integers, widening for `F16`. */
export interface TfjsStored {
  /** The dtype of what lies in the file. */
  readonly dtype: "U8" | "U16" | "F16";
  /** The step between two codes. */
  readonly scale: number;
  /** What code 0 stands for. */
  readonly min: number;
  /** The dtype it had before, and has again after `dequantizeTfjs`. */
  readonly original: "F32" | "I32";
}

/** A weight of a TensorFlow.js model. */
export interface TfjsTensor {
  /** As the model's user sees it: dequantized. */
  readonly info: TensorInfo;
  /** Index of the group whose files hold it. */
  readonly group: number;
  /** Its bytes as stored, in the group's files read as one. */
  readonly begin: number;
  /** Byte of the group behind the last one of its data. */
  readonly end: number;
  /** Undefined where the stored bytes are the tensor's own. */
  readonly stored: TfjsStored | undefined;
}

/** Files that, one after the other, hold tensors one after the other; a tensor may span files. */
export interface TfjsGroup {
  /** Relative to the `model.json`: plain names between `/`, none of them `..`. */
  readonly paths: readonly string[];
  /** In the order of their data. */
  readonly tensors: readonly TfjsTensor[];
  /** What the files must hold together. */
  readonly bytes: number;
}

const DTYPES: ReadonlyMap<string, DType> = new Map<string, DType>([
  ["float32", "F32"],
  ["int32", "I32"],
  ["bool", "BOOL"],
  ["uint8", "U8"],
  ["float16", "F16"],
  ["complex64", "C64"],
]);

const STORED_DTYPES: ReadonlyMap<string, TfjsStored["dtype"]> = new Map<string, TfjsStored["dtype"]>([
  ["uint8", "U8"],
  ["uint16", "U16"],
  ["float16", "F16"],
]);

interface Quantization {
  dtype?: string;
  scale?: number;
  min?: number;
}

interface Weight {
  name?: string;
  dtype?: string;
  shape?: number[];
  quantization?: Quantization;
}

/**
 * Reads the `weightsManifest` of a TensorFlow.js `model.json`; the model's topology is passed over.
 * @throws TensorwireError `SOURCE_INVALID`.
 * @example
 * const model = { weightsManifest: [{ paths: ["group1-shard1of1.bin"], weights: [{ name: "bias", shape: [2], dtype: "float32" }] }] };
 * const [group] = parseTfjsModel(JSON.stringify(model));
 * console.log(group?.paths.join(" "), group?.tensors[0]?.info.name); // group1-shard1of1.bin bias
 */
export function parseTfjsModel(text: string): TfjsGroup[] {
  const json = new JsonReader(text, "TensorFlow.js model");
  const names = new Set<string>();
  const paths = new Set<string>();
  let groups: TfjsGroup[] | undefined;
  json.object((key) => {
    if (key !== "weightsManifest") return json.skip();
    const found: TfjsGroup[] = [];
    json.array((index) => found.push(readGroup(json, index, names, paths)));
    groups = found;
  });
  json.end();
  if (groups === undefined) throw json.fault("has no weightsManifest");
  return groups;
}

function readGroup(json: JsonReader, group: number, names: Set<string>, taken: Set<string>): TfjsGroup {
  let paths: string[] | undefined;
  let tensors: TfjsTensor[] | undefined;
  let bytes = 0;
  json.object((key) => {
    if (key === "paths") paths = readPaths(json, taken);
    else if (key === "weights") {
      const found: TfjsTensor[] = [];
      json.array(() => {
        const tensor = tensorOf(json, readWeight(json), group, bytes);
        if (names.has(tensor.info.name)) throw json.fault("appears twice in the TensorFlow.js model");
        names.add(tensor.info.name);
        json.tensor = undefined;
        bytes = tensor.end;
        found.push(tensor);
      });
      tensors = found;
    } else json.skip();
  });
  if (paths === undefined) throw json.fault(`group ${group} of the weightsManifest has no paths`);
  if (tensors === undefined) throw json.fault(`group ${group} of the weightsManifest has no weights`);
  if (bytes > 0 && paths.length === 0) throw json.fault(`group ${group} has weights, and no files for them`);
  return { paths, tensors, bytes };
}

function readPaths(json: JsonReader, taken: Set<string>): string[] {
  const paths: string[] = [];
  json.array(() => {
    const path = json.string();
    const fault = relativePathFault(path);
    if (fault !== undefined) throw json.fault(`path ${quote(path)} ${fault}`);
    if (taken.has(path)) throw json.fault(`path ${quote(path)} appears twice`);
    taken.add(path);
    paths.push(path);
  });
  return paths;
}

function readWeight(json: JsonReader): Weight {
  const weight: Weight = {};
  json.object((field) => {
    if (field === "name") weight.name = json.string();
    else if (field === "dtype") weight.dtype = json.string();
    else if (field === "shape") {
      const shape: number[] = [];
      json.array(() => shape.push(json.count()));
      weight.shape = shape;
    } else if (field === "quantization") weight.quantization = readQuantization(json);
    else json.skip();
  });
  return weight;
}

function readQuantization(json: JsonReader): Quantization {
  const quantization: Quantization = {};
  json.object((field) => {
    if (field === "dtype") quantization.dtype = json.string();
    else if (field === "scale") quantization.scale = json.number();
    else if (field === "min") quantization.min = json.number();
    else json.skip();
  });
  return quantization;
}

/** `json.tensor` is the tensor from here on, so that errors name it. */
function tensorOf(json: JsonReader, weight: Weight, group: number, begin: number): TfjsTensor {
  const { name, dtype: spelling, shape, quantization } = weight;
  if (name === undefined)
    throw json.fault(`group ${group} of the weightsManifest has a weight without a name`);
  json.tensor = name;
  if (spelling === undefined) throw json.fault("has no dtype");
  if (shape === undefined) throw json.fault("has no shape");
  if (spelling === "string")
    throw json.fault("holds strings, which are not numbers and have no tensor form here");
  const dtype = DTYPES.get(spelling);
  if (dtype === undefined) throw json.fault(`unknown dtype ${quote(spelling)}`);
  const stored = quantization && storedOf(json, dtype, quantization);
  const end = begin + storedBytes(json, stored?.dtype ?? dtype, dtype, shape);
  if (!Number.isSafeInteger(end)) throw json.fault("ends past 2^53 bytes");
  return { info: { name, dtype, shape }, group, begin, end, stored };
}

function storedOf(json: JsonReader, original: DType, { dtype, scale, min }: Quantization): TfjsStored {
  const stored = STORED_DTYPES.get(dtype ?? "");
  if (stored === undefined) {
    throw json.fault(
      `quantization to ${dtype === undefined ? "no dtype" : quote(dtype)}: not one of uint8, uint16, float16`,
    );
  }
  if (original !== "F32" && original !== "I32")
    throw json.fault(`${original} is quantized; only float32 and int32 can be`);
  if (stored === "F16") {
    if (original !== "F32") throw json.fault(`is ${original} quantized to float16; only float32 can be`);
    return { dtype: stored, scale: 1, min: 0, original };
  }
  if (scale === undefined || min === undefined) {
    throw json.fault(`is quantized to ${dtype} without ${scale === undefined ? "scale" : "min"}`);
  }
  return { dtype: stored, scale, min, original };
}

/** Bytes in the file; the dequantized tensor must be countable too. */
function storedBytes(json: JsonReader, stored: DType, dtype: DType, shape: readonly number[]): number {
  try {
    const elements = elementCount(shape);
    byteLength(dtype, elements);
    return byteLength(stored, elements);
  } catch (error) {
    throw json.fault((error as Error).message, error);
  }
}

/**
 * Dequantizes as TensorFlow.js does: integers in f64 and then rounded to f32, or to int32 by `Math.round` (halves up) and modulo
 * 2³²; float16 widens exactly.
 * @param bytes Whole elements as stored, at any address.
 * @param target Takes 4 bytes for each of them, little-endian, at any address.
 * @throws TensorwireError `INVALID_ARGUMENT` for lengths that do not agree.
 * @example
 * const target = new Float32Array(2);
 * dequantizeTfjs({ dtype: "U8", scale: 0.5, min: -1, original: "F32" }, Uint8Array.of(0, 4), bytesOf(target));
 * console.log(target.join(" ")); // -1 1
 */
export function dequantizeTfjs(stored: TfjsStored, bytes: Uint8Array, target: Uint8Array): void {
  const size = stored.dtype === "U8" ? 1 : 2;
  const elements = bytes.length / size;
  if (!Number.isInteger(elements) || target.length < elements * 4) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${bytes.length} bytes of ${stored.dtype} do not dequantize into ${target.length} bytes of ${stored.original}`,
    );
  }
  const out = new DataView(target.buffer, target.byteOffset, elements * 4);
  const { scale, min } = stored;
  for (let i = 0; i < elements; i++) {
    const q = size === 1 ? bytes[i]! : bytes[2 * i]! | (bytes[2 * i + 1]! << 8);
    if (stored.dtype === "F16") out.setUint32(4 * i, f16ToF32Bits(q), true);
    else if (stored.original === "F32") out.setFloat32(4 * i, q * scale + min, true);
    else out.setInt32(4 * i, Math.round(q * scale + min), true);
  }
}
