import {
  type Chunk,
  ChunkPlan,
  type ChunkRecord,
  type CodecRegistry,
  type CodecSpec,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeManifest,
  encodeTotals,
  FrameType,
  type Hello,
  type Manifest,
  Packing,
  PREAMBLE,
  type Tensor,
  TransferDigest,
  xxh64,
} from "@tensorwire/core";

export interface ArtifactContent {
  readonly tensors: readonly Tensor[];
  readonly codec?: CodecSpec | ((tensor: Tensor) => CodecSpec);
  readonly chunkBytes?: number;
  /** Chunks that share a DATA frame. */
  readonly recordsPerFrame?: number;
  readonly manifest?: Partial<Manifest>;
  readonly hello?: Partial<Hello>;
  readonly registry?: CodecRegistry;
}

/** An artifact in its parts, so that a test can change, drop or move some before it writes them. */
export interface ArtifactFrames {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  readonly records: readonly ChunkRecord[];
  /** Payload of each chunk. */
  readonly payloads: readonly Uint8Array[];
  /** HELLO, MANIFEST, DATA…, END. */
  readonly frames: readonly Uint8Array[];
  /** The file: the preamble and the frames. */
  readonly bytes: Uint8Array;
}

const TRANSFER = 1;

/** Encodes with the reference codecs, in frames made by core's functions. */
export function artifactFrames(content: ArtifactContent): ArtifactFrames {
  const { tensors, codec = { name: "none" }, chunkBytes = 32768, recordsPerFrame = 2 } = content;
  const { registry = defaultCodecs } = content;
  const manifest: Manifest = {
    kind: "model",
    metadata: new Map(),
    chunkBytes,
    tensors: tensors.map((tensor) => {
      const { name, dtype, shape } = tensor;
      const spec = typeof codec === "function" ? codec(tensor) : codec;
      return { name, dtype, shape, codec: registry.resolve(spec) };
    }),
    ...content.manifest,
  };
  const plan = new ChunkPlan(manifest.tensors, chunkBytes);
  const digest = new TransferDigest(plan);
  const records: ChunkRecord[] = [];
  const payloads: Uint8Array[] = [];
  for (const chunk of plan.walk()) {
    const encoded = encodeChunk(manifest, registry, tensors[chunk.tensor]!, chunk);
    payloads.push(encoded.payload);
    records.push(encoded.record);
    digest.add(chunk.ordinal, encoded.record.codec, encoded.record.hash);
  }
  const manifestBytes = encodeManifest(manifest);
  const totals = {
    digest: digest.transfer(manifestBytes, tensors.length),
    chunks: plan.chunks,
    sourceBytes: plan.bytes,
    clamped: 3,
  };
  const hello: Hello = {
    versions: [1],
    software: "artifact-file test",
    role: "send",
    codecs: [],
    limits: { maxChunkBytes: 0, maxManifestBytes: 0 },
    ...content.hello,
  };
  const frames = [
    encodeFrame(FrameType.HELLO, 0, 0, encodeJson(hello)),
    encodeFrame(FrameType.MANIFEST, TRANSFER, 0, manifestBytes),
  ];
  for (let i = 0; i < records.length; i += recordsPerFrame) {
    const end = i + recordsPerFrame;
    frames.push(dataFrame(records.slice(i, end), payloads.slice(i, end)));
  }
  frames.push(encodeFrame(FrameType.END, TRANSFER, 0, encodeTotals(totals)));
  return { manifest, plan, records, payloads, frames, bytes: artifactBytes(frames) };
}

export function dataFrame(records: readonly ChunkRecord[], payloads: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([encodeDataHead(TRANSFER, records), ...payloads]);
}

export function artifactBytes(frames: readonly Uint8Array[]): Uint8Array {
  // Not a Buffer, whose `slice` would share its memory with the test that changes it.
  return new Uint8Array(Buffer.concat([PREAMBLE, ...frames]));
}

/** As the sender does: a chunk that its codec cannot carry travels as `none`. */
function encodeChunk(
  manifest: Manifest,
  registry: CodecRegistry,
  { data }: Tensor,
  { tensor, first, elements, offset, bytes }: Chunk,
): { record: ChunkRecord; payload: Uint8Array } {
  const { codec: spec, dtype } = manifest.tensors[tensor]!;
  const source = new Uint8Array(data.buffer, data.byteOffset + offset, bytes);
  let codec = registry.get(spec.name);
  let payload: Uint8Array = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
  if (codec.encode(spec, dtype, elements, source, payload).nonFinite > 0) {
    codec = registry.get("none");
    payload = source.slice();
  }
  const record = {
    tensor,
    firstElement: first,
    elements,
    codec: codec.id,
    packing: Packing.RAW,
    payloadBytes: payload.length,
    packedBytes: payload.length,
    hash: xxh64(payload),
  };
  return { record, payload };
}
