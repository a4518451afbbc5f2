import {
  BufferPool,
  type ChunkPlan,
  type CodecBackend,
  type CodecRegistry,
  type DType,
  isFloatDType,
  type Limits,
  type Manifest,
  NamePatterns,
  parseManifest,
  type SlabAlignment,
  TensorwireError,
  TransferDigest,
} from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import type { SinkModel } from "../sink/sink.js";
import { ChunkDecoder } from "./chunk-decoder.js";
import { checkIntegrity, type IntegrityDemands } from "./expected-digest.js";
import { HeldChunks } from "./held-chunks.js";
import { sha256Of } from "./sha256.js";
import { Tally } from "./summary.js";

export interface IncomingSettings extends IntegrityDemands {
  /** Convert float tensors to this dtype; else each arrives in its own. */
  readonly outputDtype: DType | undefined;
  /** Patterns of the tensors that the peer was asked for. Without them it may send any. */
  readonly tensors?: readonly string[] | undefined;
  readonly windowBytes: number;
  readonly limits: Limits;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly alignment: SlabAlignment | undefined;
}

/** What a manifest makes of a receiver: what it expects, and what it needs for that. */
export interface IncomingModel extends SinkModel {
  /** What the sink has, or has in its hands. */
  readonly held: HeldChunks;
  /** Lends what payloads arrive in. */
  readonly pool: BufferPool;
  readonly decoder: ChunkDecoder;
  readonly tally: Tally;
  readonly digest: TransferDigest;
}

/** A model as its sender announces it. */
export interface Announcement {
  /** The manifest's bytes, verified but not validated. */
  readonly bytes: Uint8Array;
  /** The source's version token. */
  readonly version: string | undefined;
}

/**
 * Validates a peer's manifest and prepares for the chunks that it announces.
 * @param jobs Aborts the codec jobs.
 * @throws TensorwireError `MANIFEST_INVALID`, `LIMIT_EXCEEDED`, `CODEC_UNSUPPORTED`, `INTEGRITY_REQUIRED`, `VERSION_UNSUPPORTED`.
 */
export function incomingModel(
  { bytes, version }: Announcement,
  settings: IncomingSettings,
  jobs: AbortSignal,
): IncomingModel {
  const { registry, limits, backend, alignment, windowBytes, outputDtype } = settings;
  const { manifest, plan } = parseManifest(bytes, limits, registry);
  checkIntegrity(manifest, settings);
  if (settings.tensors) checkAsked(manifest, settings.tensors);
  if (plan.maxChunkBytes > windowBytes / 2) {
    throw new TensorwireError(
      "LIMIT_EXCEEDED",
      `the peer's chunks of ${plan.maxChunkBytes} bytes are over half of this side's window of ${windowBytes}: ` +
        "raise windowBytes here, or lower chunkBytes there",
    );
  }
  const dtypes = manifest.tensors.map(({ dtype }) => arrivingDtype(manifest, dtype, outputDtype));
  const digest = new TransferDigest(plan, sha256Of(manifest));
  const largest = largestPayload(manifest, plan, registry);
  return {
    manifest,
    plan,
    dtypes,
    bytes,
    version,
    pool: new BufferPool(largest, alignment, discardSlab),
    held: new HeldChunks(plan, digest),
    decoder: new ChunkDecoder({ manifest, plan, dtypes, registry, backend, alignment, jobs, largest }),
    tally: new Tally(manifest, registry, plan),
    digest,
  };
}

/** A peer of before there were subsets passes over what it is asked for. */
function checkAsked({ tensors }: Manifest, patterns: readonly string[]): void {
  const asked = new NamePatterns(patterns);
  const other = tensors.find(({ name }) => !asked.matches(name));
  if (!other) return;
  throw new TensorwireError(
    "VERSION_UNSUPPORTED",
    "it was not asked for: the peer knows of no subsets, and sends all that it has; receive all, or have the sender choose (select)",
    { tensor: other.name },
  );
}

/** A chunk that falls back is as long as its source; a codec's scales can make a few elements longer than that. */
function largestPayload({ tensors }: Manifest, plan: ChunkPlan, registry: CodecRegistry): number {
  let largest = Math.max(plan.maxChunkBytes, 1);
  tensors.forEach(({ codec, dtype }, i) => {
    const { first, count } = plan.range(i);
    if (count === 0 || codec.name === "none") return;
    const { elements } = plan.chunk(first);
    largest = Math.max(largest, registry.get(codec.name).payloadBytes(codec, dtype, elements));
  });
  return largest;
}

function arrivingDtype(manifest: Manifest, dtype: DType, asked: DType | undefined): DType {
  return manifest.kind === "model" && asked && isFloatDType(dtype) ? asked : dtype;
}
