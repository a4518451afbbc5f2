import { ChunkPlan } from "./chunk-plan.js";
import type { CodecSpec } from "./codec/codec.js";
import type { CodecRegistry } from "./codec/registry.js";
import { byteLength, DTYPE_BITS, type DType } from "./dtype.js";
import { quote, TensorwireError } from "./errors.js";
import { checkLimit, type Limits } from "./limits.js";
import type { Integrity } from "./frame/held.js";
import { readManifest } from "./manifest-json.js";
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
  SAFETENSORS_METADATA_KEY,
} from "./safetensors/header.js";
import { elementCount, type TensorInfo, tensorBytes } from "./tensor.js";

export { encodeManifest } from "./manifest-json.js";

/** A tensor and the codec that it travels in. */
export interface ManifestTensor extends TensorInfo {
  /** With all of its parameters. */
  readonly codec: CodecSpec;
}

/** What a source says of its model before any data. */
export interface ModelInfo {
  /** `model`: tensors. `raw`: any file, as one U8 tensor named after it. */
  readonly kind: "model" | "raw";
  /** In the order in which they travel. */
  readonly tensors: readonly TensorInfo[];
  /** In the order of the source. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The source file's own header, exactly, so that a sink of the same format can write it back. */
  readonly header?: SourceHeader | undefined;
}

/** A file's own header. */
export interface SourceHeader {
  /** What kind of file it is of. */
  readonly format: "safetensors";
  /** Its JSON, with its padding. */
  readonly text: string;
}

/** Sent, and validated whole, before any payload. */
export interface Manifest extends ModelInfo {
  readonly tensors: readonly ManifestTensor[];
  /** Source bytes of a chunk, at most. */
  readonly chunkBytes: number;
  /** How chunks are hashed for the transfer digest. Default `xxh64`. */
  readonly integrity?: Integrity | undefined;
}

const encoder = new TextEncoder();

// Most names have no surrogates at all, which this test is faster to see. (`isWellFormed` is younger than the types of
// the oldest runtime that we support.)
const SURROGATE = /[\ud800-\udfff]/;
const LONE_SURROGATE = /\p{Surrogate}/u;
const isWellFormed = (text: string): boolean => !SURROGATE.test(text) || !LONE_SURROGATE.test(text);

/** A validated manifest with its plan. */
export interface PlannedManifest {
  /** What was announced. */
  readonly manifest: Manifest;
  /** How that is cut into chunks. */
  readonly plan: ChunkPlan;
}

/**
 * Validates everything that the bytes say.
 * @throws TensorwireError `MANIFEST_INVALID`, `LIMIT_EXCEEDED`, `CODEC_UNSUPPORTED`.
 * @example
 * const tensors = [{ name: "x", dtype: "F32", shape: [3], codec: { name: "none" } }] as const;
 * const bytes = encodeManifest({ kind: "model", chunkBytes: 32768, tensors, metadata: new Map() });
 * const { manifest, plan } = parseManifest(bytes, DEFAULT_LIMITS, defaultCodecs);
 * console.log(manifest.tensors[0]?.name, plan.chunks); // x 1
 */
export function parseManifest(bytes: Uint8Array, limits: Limits, registry: CodecRegistry): PlannedManifest {
  const written = readManifest(bytes, limits);
  const { kind, chunkBytes, codecs, tensors, codecOf, metadata, header, integrity } = written;
  const specs = codecs.map((spec) => resolveCodec(spec, registry));
  const manifest: Manifest = {
    kind,
    chunkBytes,
    header,
    metadata,
    integrity,
    tensors: tensors.map(({ name, dtype, shape }, i) => {
      const codec = specs[codecOf[i]!];
      if (codec) return { name, dtype, shape, codec };
      const message = `codec ${codecOf[i]}, where the manifest has ${specs.length}`;
      throw new TensorwireError("MANIFEST_INVALID", message, { tensor: name });
    }),
  };
  return { manifest, plan: planManifest(manifest, limits, registry) };
}

function resolveCodec(spec: CodecSpec, registry: CodecRegistry): CodecSpec {
  try {
    return registry.resolve(spec);
  } catch (cause) {
    if (cause instanceof TensorwireError && cause.code === "CODEC_UNSUPPORTED") throw cause;
    throw new TensorwireError("MANIFEST_INVALID", `codec ${quote(spec.name)}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * Checks a manifest, one's own or a peer's, against the limits and against itself, and plans it.
 * @example
 * const tensors = [{ name: "x", dtype: "F32", shape: [3], codec: { name: "none" } }] as const;
 * const manifest = { kind: "model", chunkBytes: 32768, tensors, metadata: new Map<string, string>() } as const;
 * console.log(planManifest(manifest, DEFAULT_LIMITS, defaultCodecs).bytes); // 12
 */
export function planManifest(manifest: Manifest, limits: Limits, registry: CodecRegistry): ChunkPlan {
  checkLimit(limits, "maxChunkBytes", manifest.chunkBytes, "the chunk size");
  checkTensors(manifest, limits, registry);
  checkMetadata(manifest);
  let plan: ChunkPlan;
  try {
    plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
  } catch (cause) {
    if (!(cause instanceof TensorwireError)) throw cause;
    throw new TensorwireError("MANIFEST_INVALID", cause.message, { cause });
  }
  checkLimit(limits, "maxChunks", plan.chunks, "the number of chunks");
  checkLimit(limits, "maxModelBytes", plan.bytes, "the model's size in bytes");
  if (manifest.header) checkHeader(manifest, manifest.header, plan, limits);
  return plan;
}

function checkTensors({ kind, tensors }: Manifest, limits: Limits, registry: CodecRegistry): void {
  checkLimit(limits, "maxTensors", tensors.length, "the number of tensors");
  const names = new Set<string>();
  for (const tensor of tensors) {
    if (names.size === names.add(tensor.name).size) throw fault(tensor, "the name stands twice");
    checkTensor(tensor, limits, registry);
  }
  if (kind === "raw") {
    const [file, ...more] = tensors;
    if (
      !file ||
      more.length ||
      file.dtype !== "U8" ||
      file.shape.length !== 1 ||
      file.codec.name !== "none"
    ) {
      throw new TensorwireError("MANIFEST_INVALID", "a raw file is one U8 tensor of one dimension, as none");
    }
  }
}

function fault({ name }: TensorInfo, message: string, cause?: unknown): TensorwireError {
  return new TensorwireError("MANIFEST_INVALID", message, { tensor: name, cause });
}

// There may be hundreds of thousands: what an error would say is made when there is one.
function checkTensor(tensor: ManifestTensor, limits: Limits, registry: CodecRegistry): void {
  const { name, dtype, shape, codec } = tensor;
  if (name === SAFETENSORS_METADATA_KEY) throw fault(tensor, "the name is reserved");
  if (!isWellFormed(name)) throw fault(tensor, "the name is not well-formed Unicode");
  // A UTF-16 unit is at most three bytes of UTF-8.
  if (name.length * 3 > limits.maxNameBytes) {
    checkLimit(limits, "maxNameBytes", encoder.encode(name).length, `the name ${quote(name)} in bytes`);
  }
  if (shape.length > limits.maxRank) {
    checkLimit(limits, "maxRank", shape.length, `the rank of tensor ${quote(name)}`);
  }
  if (!registry.get(codec.name).supports(dtype))
    throw fault(tensor, `codec ${codec.name} does not take ${dtype}`);
  try {
    const elements = elementCount(shape);
    checkWhole(dtype, elements);
    byteLength(dtype, elements);
  } catch (cause) {
    throw fault(tensor, (cause as Error).message, cause);
  }
}

// Of dtypes of 4 and 6 bits the count alone decides: its product with the bits may be more than a number holds exactly.
function checkWhole(dtype: DType, elements: number): void {
  const bits = DTYPE_BITS[dtype];
  if (bits < 8 && elements % (bits === 4 ? 2 : 4)) {
    throw new TensorwireError("INVALID_ARGUMENT", `${elements} elements of ${dtype} do not fill whole bytes`);
  }
}

// One's own: a peer's is read as strings that are well-formed.
function checkMetadata({ metadata }: Manifest): void {
  for (const [key, value] of metadata) {
    if (typeof key === "string" && typeof value === "string" && isWellFormed(key) && isWellFormed(value))
      continue;
    const message = `metadata ${quote(String(key))}: key and value must be strings of well-formed Unicode`;
    throw new TensorwireError("MANIFEST_INVALID", message);
  }
}

// A sink writes the header back as it is: it must say what the manifest says, tensor by tensor, without holes or overlaps.
function checkHeader(manifest: Manifest, header: SourceHeader, plan: ChunkPlan, limits: Limits): void {
  const invalid = (message: string, cause?: unknown) =>
    new TensorwireError("MANIFEST_INVALID", `the source's header: ${message}`, { cause });
  if (manifest.kind !== "model") throw invalid("a raw file has none");
  if (!isWellFormed(header.text)) throw invalid("is not well-formed Unicode");
  if (hasUsualSpelling(manifest, header.text)) return;
  const bytes = encoder.encode(header.text);
  const { maxTensors, maxNameBytes, maxRank } = limits;
  const bounds = { maxTensors, maxNameBytes, maxRank };
  let tensors: readonly { readonly info: TensorInfo }[];
  let metadata: ReadonlyMap<string, string> | undefined;
  try {
    ({ tensors, metadata } = parseSafetensorsHeader(bytes, 8 + bytes.length + plan.bytes, bounds));
  } catch (cause) {
    throw invalid((cause as Error).message, cause);
  }
  const same =
    tensors.length === manifest.tensors.length &&
    tensors.every(({ info }, i) => sameInfo(info, manifest.tensors[i]!));
  if (!same) throw invalid("its tensors are not the manifest's");
  const pairs = [...(metadata ?? [])];
  if (
    pairs.length !== manifest.metadata.size ||
    pairs.some(([key, value]) => manifest.metadata.get(key) !== value)
  ) {
    throw invalid("its metadata is not the manifest's");
  }
}

// Nearly every header is exactly what the reference implementation writes of its tensors, and comparing it with that takes
// a third of the time of reading it. What is spelled otherwise is read.
function hasUsualSpelling({ tensors, metadata }: Manifest, text: string): boolean {
  if (text.length * 3 > MAX_SAFETENSORS_HEADER_BYTES) return false;
  let at = 0;
  const goesOn = (member: string): boolean => {
    // Compared as a slice: `startsWith` takes twice as long.
    const begin = at;
    at += member.length + 1;
    return text.slice(begin, at) === (begin === 0 ? "{" : ",") + member;
  };
  if (metadata.size) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    if (!goesOn(`"${SAFETENSORS_METADATA_KEY}":{${pairs.join(",")}}`)) return false;
  }
  let begin = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    const end = begin + tensorBytes(tensor);
    const entry = `{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${begin},${end}]}`;
    if (!goesOn(`${JSON.stringify(name)}:${entry}`)) return false;
    begin = end;
  }
  return at > 0 && /^} *$/.test(text.slice(at));
}

/**
 * Whether two tensors have the same name, dtype and shape.
 * @example
 * const info = { name: "x", dtype: "F32", shape: [3] } as const;
 * console.log(sameInfo(info, { ...info, shape: [1, 3] })); // false
 */
export function sameInfo(a: TensorInfo, b: TensorInfo): boolean {
  return (
    a.name === b.name &&
    a.dtype === b.dtype &&
    a.shape.length === b.shape.length &&
    a.shape.every((dimension, i) => dimension === b.shape[i])
  );
}
