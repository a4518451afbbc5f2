import * as v from "valibot";
import { ChunkPlan } from "./chunk-plan.js";
import type { CodecSpec } from "./codec/codec.js";
import type { CodecRegistry } from "./codec/registry.js";
import { DTYPE_BITS, type DType } from "./dtype.js";
import { quote, TensorwireError } from "./errors.js";
import { checkLimit, type Limits } from "./limits.js";
import { parseSafetensorsHeader } from "./safetensors/header.js";
import { elementCount, type TensorInfo } from "./tensor.js";

/** A tensor and the codec that it travels in. */
export interface ManifestTensor extends TensorInfo {
  readonly codec: CodecSpec;
}

/** What a source says of its model before any data. */
export interface ModelInfo {
  /** `model`: tensors. `raw`: any file, as one U8 tensor named after it. */
  readonly kind: "model" | "raw";
  /** In the order in which they travel. */
  readonly tensors: readonly TensorInfo[];
  readonly metadata: ReadonlyMap<string, string>;
  /** The source file's own header, exactly, so that a sink of the same format can write it back. */
  readonly header?: SourceHeader | undefined;
}

export interface SourceHeader {
  readonly format: "safetensors";
  readonly text: string;
}

/** Sent, and validated whole, before any payload. */
export interface Manifest extends ModelInfo {
  readonly tensors: readonly ManifestTensor[];
  readonly chunkBytes: number;
}

const Text = v.pipe(
  v.string(),
  v.check((text) => isWellFormed(text), "is not well-formed Unicode"),
);
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Codec = v.objectWithRest(
  { name: v.pipe(v.string(), v.maxLength(64)) },
  v.union([v.number(), v.boolean(), v.string()]),
);

const ManifestSchema = v.strictObject({
  kind: v.picklist(["model", "raw"]),
  chunkBytes: Count,
  codecs: v.pipe(v.array(Codec), v.maxLength(65535)),
  /** `[name, dtype, shape, index of the codec]` */
  tensors: v.array(
    v.strictTuple([Text, v.picklist(Object.keys(DTYPE_BITS) as DType[]), v.array(Count), Count]),
  ),
  metadata: v.array(v.strictTuple([Text, Text])),
  header: v.optional(v.strictObject({ format: v.literal("safetensors"), text: Text })),
});

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

// `String.prototype.isWellFormed` is younger than the oldest runtime that we support has typed.
const LONE_SURROGATE = /\p{Surrogate}/u;
const isWellFormed = (text: string): boolean => !LONE_SURROGATE.test(text);

/** The manifest's bytes: JSON in UTF-8, each distinct codec written once. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const codecs: CodecSpec[] = [];
  const indexes = new Map<string, number>();
  const indexOf = (codec: CodecSpec): number => {
    const key = JSON.stringify(codec);
    let index = indexes.get(key);
    if (index === undefined) {
      index = codecs.push(codec) - 1;
      indexes.set(key, index);
    }
    return index;
  };
  const tensors = manifest.tensors.map(({ name, dtype, shape, codec }) => [
    name,
    dtype,
    shape,
    indexOf(codec),
  ]);
  return encoder.encode(
    JSON.stringify({
      kind: manifest.kind,
      chunkBytes: manifest.chunkBytes,
      codecs,
      tensors,
      metadata: [...manifest.metadata],
      ...(manifest.header && { header: manifest.header }),
    }),
  );
}

/** A validated manifest with its plan. */
export interface PlannedManifest {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
}

/**
 * Validates everything that the bytes say.
 * @throws TensorwireError `MANIFEST_INVALID`, `LIMIT_EXCEEDED`, `CODEC_UNSUPPORTED`.
 */
export function parseManifest(bytes: Uint8Array, limits: Limits, registry: CodecRegistry): PlannedManifest {
  let json: unknown;
  try {
    json = JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw new TensorwireError("MANIFEST_INVALID", "the manifest is not JSON in UTF-8", { cause });
  }
  const result = v.safeParse(ManifestSchema, json, { abortEarly: true });
  if (!result.success) {
    const issue = result.issues[0];
    throw new TensorwireError("MANIFEST_INVALID", `${v.getDotPath(issue) ?? "manifest"}: ${issue.message}`);
  }
  const { codecs, tensors, metadata, ...rest } = result.output;
  const specs = codecs.map((spec) => resolveCodec(spec as CodecSpec, registry));
  const manifest: Manifest = {
    kind: rest.kind,
    chunkBytes: rest.chunkBytes,
    header: rest.header,
    metadata: new Map(metadata),
    tensors: tensors.map(([name, dtype, shape, index]) => {
      const codec = specs[index];
      if (!codec)
        throw new TensorwireError("MANIFEST_INVALID", `codec ${index} of ${specs.length}`, { tensor: name });
      return { name, dtype, shape, codec };
    }),
  };
  if (manifest.metadata.size !== metadata.length) {
    throw new TensorwireError("MANIFEST_INVALID", "a metadata key stands twice");
  }
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

/** Checks a manifest, one's own or a peer's, against the limits and against itself, and plans it. */
export function planManifest(manifest: Manifest, limits: Limits, registry: CodecRegistry): ChunkPlan {
  checkLimit(limits, "maxChunkBytes", manifest.chunkBytes, "the chunk size");
  checkTensors(manifest, limits, registry);
  let plan: ChunkPlan;
  try {
    plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
  } catch (cause) {
    if (!(cause instanceof TensorwireError)) throw cause;
    throw new TensorwireError("MANIFEST_INVALID", cause.message, { cause });
  }
  checkLimit(limits, "maxChunks", plan.chunks, "the number of chunks");
  checkLimit(limits, "maxModelBytes", plan.bytes, "the model's size in bytes");
  if (manifest.header) checkHeader(manifest, manifest.header, plan);
  return plan;
}

function checkTensors({ kind, tensors }: Manifest, limits: Limits, registry: CodecRegistry): void {
  checkLimit(limits, "maxTensors", tensors.length, "the number of tensors");
  const names = new Set<string>();
  for (const { name, dtype, shape, codec } of tensors) {
    const fault = (message: string) => new TensorwireError("MANIFEST_INVALID", message, { tensor: name });
    if (names.has(name)) throw fault("the name stands twice");
    names.add(name);
    if (name === "__metadata__") throw fault("the name is reserved");
    if (!isWellFormed(name)) throw fault("the name is not well-formed Unicode");
    checkLimit(limits, "maxNameBytes", encoder.encode(name).length, `the name ${quote(name)} in bytes`);
    checkLimit(limits, "maxRank", shape.length, `the rank of tensor ${quote(name)}`);
    const elements = count(shape, name);
    if (!registry.get(codec.name).supports(dtype)) throw fault(`codec ${codec.name} does not take ${dtype}`);
    if (DTYPE_BITS[dtype] < 8 && (elements * DTYPE_BITS[dtype]) % 8) throw fault("does not fill whole bytes");
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

function count(shape: readonly number[], name: string): number {
  try {
    return elementCount(shape, name);
  } catch (cause) {
    throw new TensorwireError("MANIFEST_INVALID", (cause as Error).message, { cause });
  }
}

// A sink writes the header back as it is: it must say what the manifest says, tensor by tensor, without holes or overlaps.
function checkHeader(manifest: Manifest, header: SourceHeader, plan: ChunkPlan): void {
  const invalid = (message: string, cause?: unknown) =>
    new TensorwireError("MANIFEST_INVALID", `the source's header: ${message}`, { cause });
  if (manifest.kind !== "model") throw invalid("a raw file has none");
  const bytes = encoder.encode(header.text);
  let tensors: readonly { readonly info: TensorInfo }[];
  let metadata: ReadonlyMap<string, string> | undefined;
  try {
    ({ tensors, metadata } = parseSafetensorsHeader(bytes, 8 + bytes.length + plan.bytes));
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

/** Whether two tensors have the same name, dtype and shape. */
export function sameInfo(a: TensorInfo, b: TensorInfo): boolean {
  return (
    a.name === b.name &&
    a.dtype === b.dtype &&
    a.shape.length === b.shape.length &&
    a.shape.every((dimension, i) => dimension === b.shape[i])
  );
}
