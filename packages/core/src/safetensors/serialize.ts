import { byteLength, isDType } from "../dtype.js";
import { quote, TensorwireError } from "../errors.js";
import { elementCount, type TensorInfo } from "../tensor.js";
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  SAFETENSORS_METADATA_KEY,
  SAFETENSORS_PREFIX_BYTES,
} from "./header.js";

const LONE_SURROGATE = /\p{Surrogate}/u;
const SPACE = 0x20;

/** A header that was made, and where the tensors' data goes. */
export interface SerializedHeader {
  /** What the file begins with: length, JSON, and padding that aligns the data to 8 bytes. */
  readonly bytes: Uint8Array;
  /** For each tensor, in the order given: its place in the data, counted from `bytes.length`. */
  readonly offsets: readonly { readonly begin: number; readonly end: number }[];
  /** Bytes of all data: what the file has behind `bytes`. */
  readonly dataBytes: number;
}

/**
 * Makes the beginning of a safetensors file that holds these tensors in this order, in the reference implementation's
 * spelling. Only the data's beginning is aligned: put wide dtypes first where every tensor must be.
 * @throws TensorwireError `INVALID_ARGUMENT` for infos or metadata that a file cannot carry, `LIMIT_EXCEEDED` for too many.
 * @example
 * const { bytes, offsets } = serializeSafetensorsHeader([{ name: "x", dtype: "F32", shape: [3] }]);
 * console.log(bytes.length % 8, offsets[0]?.end); // 0 12
 */
export function serializeSafetensorsHeader(
  infos: readonly TensorInfo[],
  metadata?: Iterable<readonly [string, string]>,
): SerializedHeader {
  const members: string[] = [];
  if (metadata !== undefined) members.push(`"${SAFETENSORS_METADATA_KEY}":${metadataJson(metadata)}`);
  const names = new Set<string>();
  const offsets: { begin: number; end: number }[] = [];
  let at = 0;
  for (const { name, dtype, shape } of infos) {
    checkName(name, names);
    names.add(name);
    const begin = at;
    at += dataLength({ name, dtype, shape });
    if (!Number.isSafeInteger(at)) {
      throw new TensorwireError("LIMIT_EXCEEDED", "the data up to its end is over 2^53 bytes", {
        tensor: name,
      });
    }
    offsets.push({ begin, end: at });
    // Written by hand: an object would move integer-like names to the front and lose `__proto__`.
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${at}]}`,
    );
  }
  return { bytes: frame(`{${members.join(",")}}`), offsets, dataBytes: at };
}

function metadataJson(metadata: Iterable<readonly [string, string]>): string {
  const keys = new Set<string>();
  const members: string[] = [];
  for (const [key, value] of metadata) {
    if (typeof key !== "string" || typeof value !== "string") {
      throw refusal(`metadata takes strings only, not ${typeof value} under ${quote(String(key))}`);
    }
    if (keys.has(key)) throw refusal(`metadata has key ${quote(key)} twice`);
    if (LONE_SURROGATE.test(key) || LONE_SURROGATE.test(value)) {
      throw refusal(`metadata ${quote(key)} holds half a surrogate pair, which is not Unicode`);
    }
    keys.add(key);
    members.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
  }
  return `{${members.join(",")}}`;
}

function checkName(name: string, taken: ReadonlySet<string>): void {
  if (typeof name !== "string") throw refusal(`a tensor's name must be a string, not ${typeof name}`);
  if (name === SAFETENSORS_METADATA_KEY) throw refusal("this name is reserved for the metadata", name);
  if (taken.has(name)) throw refusal("appears twice", name);
  if (LONE_SURROGATE.test(name)) {
    throw refusal("its name holds half a surrogate pair, which is not Unicode", name);
  }
}

function dataLength({ name, dtype, shape }: TensorInfo): number {
  if (!isDType(dtype)) throw refusal(`unknown dtype ${quote(String(dtype))}`, name);
  const elements = elementCount(shape, name);
  try {
    return byteLength(dtype, elements);
  } catch (error) {
    // `byteLength` knows no name.
    if (!(error instanceof TensorwireError)) throw error;
    throw new TensorwireError(error.code, error.message, { tensor: name, cause: error });
  }
}

function frame(json: string): Uint8Array {
  // UTF-8 is never shorter than UTF-16 has units: a text far too long is not encoded first.
  const text = json.length > MAX_SAFETENSORS_HEADER_BYTES ? undefined : new TextEncoder().encode(json);
  const padded = Math.ceil((text?.length ?? json.length) / 8) * 8;
  if (text === undefined || padded > MAX_SAFETENSORS_HEADER_BYTES) {
    throw new TensorwireError(
      "LIMIT_EXCEEDED",
      `a header of ${padded} bytes or more is over the format's ${MAX_SAFETENSORS_HEADER_BYTES}: write fewer tensors a file`,
    );
  }
  const bytes = new Uint8Array(SAFETENSORS_PREFIX_BYTES + padded).fill(SPACE);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(text, SAFETENSORS_PREFIX_BYTES);
  return bytes;
}

function refusal(message: string, tensor?: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message, { tensor });
}
