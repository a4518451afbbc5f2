import {
  type Chunk,
  ChunkIndex,
  ChunkPlan,
  type ChunkRecord,
  type CodecRegistry,
  type CodecSpec,
  COUNT_BYTES,
  defaultCodecs,
  encodeDataHead,
  encodeFooter,
  encodeFrame,
  encodeIndexHead,
  encodeJson,
  encodeManifest,
  encodeTotals,
  FOOTER_BYTES,
  FrameType,
  HEADER_BYTES,
  type Hello,
  type Manifest,
  Packing,
  PREAMBLE,
  RECORD_BYTES,
  type Sha256,
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
  /** With it the manifest has that integrity. */
  readonly sha256?: Sha256;
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
  /** The body of the INDEX that goes with them, and the whole file with that and a footer. */
  readonly index: ChunkIndex;
  readonly indexed: Uint8Array;
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
    ...(content.sha256 && { integrity: "sha256" }),
    tensors: tensors.map((tensor) => {
      const { name, dtype, shape } = tensor;
      const spec = typeof codec === "function" ? codec(tensor) : codec;
      return { name, dtype, shape, codec: registry.resolve(spec) };
    }),
    ...content.manifest,
  };
  const plan = new ChunkPlan(manifest.tensors, chunkBytes);
  const digest = new TransferDigest(plan, content.sha256);
  const records: ChunkRecord[] = [];
  const payloads: Uint8Array[] = [];
  for (const chunk of plan.walk()) {
    const encoded = encodeChunk(manifest, registry, tensors[chunk.tensor]!, chunk);
    payloads.push(encoded.payload);
    records.push(encoded.record);
    const { codec, hash } = encoded.record;
    digest.add(chunk.ordinal, codec, hash, content.sha256?.(encoded.payload));
  }
  const manifestBytes = encodeManifest(manifest);
  const totals = {
    digest: digest.transfer(manifestBytes, tensors.length),
    chunks: plan.chunks,
    sourceBytes: plan.bytes,
    clamped: 3,
    sha256: digest.sha256(manifestBytes, tensors.length),
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
  const index = new ChunkIndex(plan, manifest.integrity);
  const headBytes = artifactBytes(frames).length;
  let at = headBytes;
  for (let i = 0; i < records.length; i += recordsPerFrame) {
    const sharing = records.slice(i, i + recordsPerFrame);
    let position = at + HEADER_BYTES + COUNT_BYTES + sharing.length * RECORD_BYTES;
    for (const record of sharing) {
      index.add({ ...record, position });
      position += record.packedBytes;
    }
    at = position;
    frames.push(dataFrame(sharing, payloads.slice(i, i + recordsPerFrame)));
  }
  for (let i = 0; content.sha256 && i < tensors.length; i++) index.setTensor(i, digest.tensorSha256(i)!);
  frames.push(encodeFrame(FrameType.END, TRANSFER, 0, encodeTotals(totals)));
  const bytes = artifactBytes(frames);
  const indexed = withIndex(bytes, { headBytes, endPosition: at }, index.bytes);
  return { manifest, plan, records, payloads, frames, bytes, index, indexed };
}

/** A file that ends with END, and what a sink would write behind that. */
export function withIndex(
  bytes: Uint8Array,
  places: { readonly headBytes: number; readonly endPosition: number },
  body: Uint8Array,
): Uint8Array {
  const fileBytes = bytes.length + HEADER_BYTES + body.length + FOOTER_BYTES;
  const footer = encodeFooter({ ...places, fileBytes });
  return new Uint8Array(Buffer.concat([bytes, encodeIndexHead(TRANSFER, body), body, footer]));
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
