import { byteLength, type DType } from "../dtype.js";
import { quote, TensorwireError } from "../errors.js";
import { JsonReader } from "../json-reader.js";
import { checkLimit, type Limits, resolveLimits } from "../limits.js";
import { elementCount, type TensorInfo } from "../tensor.js";
import { readDType, readShape } from "../tensor-json.js";

/** Bytes of the u64 that says how long the header is. */
export const SAFETENSORS_PREFIX_BYTES = 8;

/** The reference implementation's cap on the header's JSON. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000;

/** The key of the header that is not a tensor. */
export const SAFETENSORS_METADATA_KEY = "__metadata__";

/** A tensor of a safetensors file; `begin` and `end` count from the first byte after the header. */
export interface SafetensorsEntry {
  /** Name, dtype and shape. */
  readonly info: TensorInfo;
  /** Its first byte. */
  readonly begin: number;
  /** The byte behind its last. */
  readonly end: number;
}

/** A safetensors header, validated whole. */
export interface SafetensorsHeader {
  /** Bytes of the JSON with its padding; the data begins 8 bytes further. */
  readonly headerBytes: number;
  /** The header as it stands in the file, from which the same file can be built again. */
  readonly text: string;
  /** `__metadata__` in the file's order; undefined where the file has none. */
  readonly metadata: ReadonlyMap<string, string> | undefined;
  /** In the order of their data: by `begin`, then `end`, then place in the header. */
  readonly tensors: readonly SafetensorsEntry[];
  /** Bytes of all data. */
  readonly dataBytes: number;
}

/** What of the limits a header can exceed. */
export type SafetensorsLimits = Partial<Pick<Limits, "maxTensors" | "maxNameBytes" | "maxRank">>;

type Mutable<T> = { -readonly [K in keyof T]?: T[K] };

/**
 * Length of the header that the first 8 bytes of a file of `fileBytes` bytes announce.
 * @throws TensorwireError `SOURCE_INVALID` where no header of that length can be read.
 */
export function safetensorsHeaderLength(prefix: Uint8Array, fileBytes: number): number {
  if (prefix.length < SAFETENSORS_PREFIX_BYTES || fileBytes < SAFETENSORS_PREFIX_BYTES) {
    const bytes = Math.min(prefix.length, fileBytes);
    throw invalid(`${bytes} bytes are too few for a safetensors file: it begins with 8 bytes of length`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > MAX_SAFETENSORS_HEADER_BYTES) {
    throw invalid(
      `a header of ${length} bytes is over the format's ${MAX_SAFETENSORS_HEADER_BYTES}: this is hardly a safetensors file`,
    );
  }
  checkFits(Number(length), fileBytes);
  return Number(length);
}

/**
 * Parses and validates a safetensors header: everything that the reference implementation checks, and the faults that it
 * overlooks (duplicate names, unknown fields, a first byte other than `{`).
 * @param header The JSON's bytes, without the length before them.
 * @param fileBytes Size of the whole file, which the data must fill exactly.
 * @throws TensorwireError `SOURCE_INVALID` naming the tensor, `LIMIT_EXCEEDED`.
 * @example
 * const { bytes, dataBytes } = serializeSafetensorsHeader([{ name: "x", dtype: "F32", shape: [3] }]);
 * const length = safetensorsHeaderLength(bytes, bytes.length + dataBytes);
 * const { tensors } = parseSafetensorsHeader(bytes.subarray(8, 8 + length), bytes.length + dataBytes);
 * console.log(tensors[0]?.info.name, tensors[0]?.end); // x 12
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  fileBytes: number,
  limits: SafetensorsLimits = {},
): SafetensorsHeader {
  const bounds = resolveLimits(limits);
  if (header.length > MAX_SAFETENSORS_HEADER_BYTES) {
    throw invalid(`a header of ${header.length} bytes is over the format's ${MAX_SAFETENSORS_HEADER_BYTES}`);
  }
  checkFits(header.length, fileBytes);
  const text = decodeText(header);
  const json = new JsonReader(text, "safetensors header");
  if (!text.startsWith("{")) {
    throw json.fault(text === "" ? "is empty" : `must begin with "{", begins with ${quote(text.charAt(0))}`);
  }
  let metadata: ReadonlyMap<string, string> | undefined;
  const tensors: SafetensorsEntry[] = [];
  json.object((key) => {
    if (key === SAFETENSORS_METADATA_KEY) {
      metadata = readMetadata(json);
    } else {
      json.tensor = key;
      checkName(key, bounds);
      tensors.push(readEntry(json, key, bounds));
      json.tensor = undefined;
      checkLimit(bounds, "maxTensors", tensors.length, "the number of tensors");
    }
  }, "tensors");
  json.end();
  const dataBytes = fileBytes - SAFETENSORS_PREFIX_BYTES - header.length;
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkLayout(tensors, dataBytes);
  return { headerBytes: header.length, text, metadata, tensors, dataBytes };
}

function invalid(message: string, tensor?: string, cause?: unknown): TensorwireError {
  return new TensorwireError("SOURCE_INVALID", message, { tensor, cause });
}

function checkFits(headerBytes: number, fileBytes: number): void {
  if (headerBytes + SAFETENSORS_PREFIX_BYTES > fileBytes) {
    throw invalid(
      `the file ends inside its header: the header takes ${headerBytes + SAFETENSORS_PREFIX_BYTES} bytes with its length, the file has ${fileBytes}`,
    );
  }
}

function decodeText(header: Uint8Array): string {
  try {
    // With ignoreBOM a byte order mark stays in the text, where it is not a "{".
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch (cause) {
    throw invalid("safetensors header: is not UTF-8", undefined, cause);
  }
}

function readMetadata(json: JsonReader): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  json.object((key) => {
    metadata.set(key, json.string());
  });
  return metadata;
}

function checkName(name: string, limits: Limits): void {
  // A UTF-16 unit is at most three bytes of UTF-8, so that short names need no encoding.
  if (name.length * 3 <= limits.maxNameBytes) return;
  const bytes = new TextEncoder().encode(name).length;
  checkLimit(limits, "maxNameBytes", bytes, `the length of name ${quote(name)}`);
}

function readEntry(json: JsonReader, name: string, limits: Limits): SafetensorsEntry {
  const entry: Mutable<{ dtype: DType; shape: readonly number[]; offsets: readonly [number, number] }> = {};
  json.object((field) => {
    if (field === "dtype") entry.dtype = readDType(json);
    else if (field === "shape") entry.shape = readShape(json, name, limits);
    else if (field === "data_offsets") entry.offsets = readOffsets(json);
    else throw json.fault(`unknown field ${quote(field)}`);
  });
  const { dtype, shape, offsets } = entry;
  if (dtype === undefined) throw json.fault("has no dtype");
  if (shape === undefined) throw json.fault("has no shape");
  if (offsets === undefined) throw json.fault("has no data_offsets");
  const [begin, end] = offsets;
  const bytes = bytesOfShape(json, dtype, shape);
  if (end - begin !== bytes) {
    throw json.fault(
      `data_offsets [${offsets}] are ${end - begin} bytes, but ${dtype} [${shape}] takes ${bytes}`,
    );
  }
  return { info: { name, dtype, shape }, begin, end };
}

function readOffsets(json: JsonReader): readonly [number, number] {
  const offsets: number[] = [];
  json.array((index) => {
    if (index === 2) throw json.fault("data_offsets are more than a begin and an end");
    offsets.push(json.count());
  });
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined) {
    throw json.fault(`data_offsets [${offsets}] are not a begin and an end`);
  }
  if (end < begin) throw json.fault(`data_offsets [${offsets}] end before they begin`);
  return [begin, end];
}

function bytesOfShape(json: JsonReader, dtype: DType, shape: readonly number[]): number {
  try {
    return byteLength(dtype, elementCount(shape));
  } catch (error) {
    throw json.fault((error as Error).message, error);
  }
}

/** Checks that the tensors, in the order of their data, fill it without hole or overlap. */
function checkLayout(tensors: readonly SafetensorsEntry[], dataBytes: number): void {
  let before: SafetensorsEntry | undefined;
  for (const entry of tensors) {
    checkFollows(entry, before);
    before = entry;
  }
  const filled = before?.end ?? 0;
  if (filled !== dataBytes) {
    const fault = filled > dataBytes ? "the file is truncated" : "the file has bytes that no tensor owns";
    throw invalid(`${fault}: its tensors take ${filled} bytes of data, the file has ${dataBytes}`);
  }
}

function checkFollows({ info, begin, end }: SafetensorsEntry, before: SafetensorsEntry | undefined): void {
  const expected = before?.end ?? 0;
  if (begin === expected) return;
  const neighbour = before
    ? `tensor ${quote(before.info.name)} at [${before.begin},${before.end}]`
    : "the beginning of the data";
  const fault = begin > expected ? `leave a hole of ${begin - expected} bytes after` : "overlap";
  throw invalid(`data_offsets [${begin},${end}] ${fault} ${neighbour}`, info.name);
}
