import { stat } from "node:fs/promises";
import {
  ChunkPlan,
  defaultCodecs,
  elementCount,
  formatDigest,
  formatSha256,
  type Manifest,
  type ModelInfo,
  Packing,
  tensorBytes,
} from "@tensorwire/core";
import type { Command } from "commander";
import { modelDigest } from "../compute/model-digest.js";
import { resolveOptions } from "../options.js";
import type { ArtifactSource } from "../source/artifact.js";
import { openSource } from "../source/open.js";
import { addOutputFlags } from "./output-flags.js";
import { inspectionText } from "./inspection-text.js";
import type { Invocation } from "./invocation.js";

/** What `inspect` shows; `--json` prints it as it is. */
export interface Inspection {
  readonly path: string;
  readonly kind: ModelInfo["kind"];
  readonly tensors: readonly InspectedTensor[];
  readonly metadata: Record<string, string>;
  readonly totals: {
    readonly tensors: number;
    readonly elements: number;
    readonly bytes: number;
    /** In artifacts: bytes of all payloads, and what they take there, packed or not. */
    readonly payloadBytes?: number;
    readonly packedBytes?: number;
  };
  /** Of its tensors, decoded: with `--model-digest`. */
  readonly modelDigest?: string;
  /** Of artifacts only. */
  readonly artifact?: {
    readonly fileBytes: number;
    readonly software: string;
    readonly chunkBytes: number;
    readonly chunks: number;
    readonly fallbackChunks: number;
    readonly packedChunks: number;
    readonly clamped: number;
    readonly digest: string;
    readonly sha256?: string;
  };
}

export interface InspectedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** Of artifacts only: its codec with its parameters, and the bytes of its payloads, before and after packing. */
  readonly codec?: Manifest["tensors"][number]["codec"];
  readonly payloadBytes?: number;
  readonly packedBytes?: number;
}

export function declareInspect(program: Command, invocation: Invocation): void {
  const command = program
    .command("inspect")
    .summary("show what a model or artifact holds")
    .description(
      "Shows the tensors of a model or artifact with their sizes; of artifacts also codecs and payloads.",
    )
    .argument("<model>", "whatever send takes")
    .option("--model-digest", "also read all of it, for the digest that deltas name their base by")
    .action((path: string, flags: { modelDigest?: boolean }) =>
      inspect(path, flags.modelDigest === true, invocation),
    );
  addOutputFlags(command);
}

async function inspect(path: string, digest: boolean, { output }: Invocation): Promise<void> {
  const source = await openSource(path, {}, await resolveOptions({}));
  try {
    const model = await source.open();
    const found =
      "record" in source
        ? await inspectArtifact(path, model as Manifest, source as ArtifactSource)
        : inspectModel(path, model);
    const inspection = digest ? { ...found, modelDigest: await modelDigest(path) } : found;
    output.result(output.json ? JSON.stringify(inspection) : inspectionText(inspection));
  } finally {
    await source.close();
  }
}

function inspectModel(path: string, { kind, tensors, metadata }: ModelInfo): Inspection {
  const inspected = tensors.map(({ name, dtype, shape }, i) => ({
    name,
    dtype,
    shape,
    bytes: tensorBytes(tensors[i]!),
  }));
  return {
    path,
    kind,
    tensors: inspected,
    metadata: Object.fromEntries(metadata),
    totals: {
      tensors: tensors.length,
      elements: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
      bytes: inspected.reduce((sum, { bytes }) => sum + bytes, 0),
    },
  };
}

async function inspectArtifact(
  path: string,
  manifest: Manifest,
  artifact: ArtifactSource,
): Promise<Inspection> {
  const { chunkBytes } = manifest;
  const { totals, software } = artifact;
  const plan = new ChunkPlan(manifest.tensors, chunkBytes);
  const model = inspectModel(path, manifest);
  let fallbackChunks = 0;
  let packedChunks = 0;
  const tensors = model.tensors.map((tensor, i) => {
    const { codec } = manifest.tensors[i]!;
    const { payloadBytes, packedBytes, fallbacks, packed } = payloadsOf(artifact, plan, i, codec.name);
    fallbackChunks += fallbacks;
    packedChunks += packed;
    return { ...tensor, codec, payloadBytes, packedBytes };
  });
  return {
    ...model,
    tensors,
    totals: {
      ...model.totals,
      payloadBytes: tensors.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0),
      packedBytes: tensors.reduce((sum, { packedBytes }) => sum + packedBytes, 0),
    },
    artifact: {
      fileBytes: (await stat(path)).size,
      software,
      chunkBytes,
      chunks: totals.chunks,
      fallbackChunks,
      packedChunks,
      clamped: totals.clamped,
      digest: formatDigest(totals.digest),
      ...(totals.sha256 && { sha256: formatSha256(totals.sha256) }),
    },
  };
}

function payloadsOf(artifact: ArtifactSource, plan: ChunkPlan, tensor: number, codec: string) {
  const { first, count } = plan.range(tensor);
  const id = defaultCodecs.get(codec).id;
  const found = { payloadBytes: 0, packedBytes: 0, fallbacks: 0, packed: 0 };
  for (let ordinal = first; ordinal < first + count; ordinal++) {
    const record = artifact.record(ordinal);
    found.payloadBytes += record.payloadBytes;
    found.packedBytes += record.packedBytes;
    if (record.codec !== id) found.fallbacks++;
    if (record.packing !== Packing.RAW) found.packed++;
  }
  return found;
}
