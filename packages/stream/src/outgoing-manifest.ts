import {
  type Hello,
  type Integrity,
  type Manifest,
  type ModelInfo,
  type Policy,
  quote,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import { type ResolvedOptions, resolveChunkBytes } from "./options.js";
import { seeded } from "./session/seed.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "./source/source.js";

/** What a manifest depends on beside its source: what the caller asks for, and what the peer can take. */
export interface Terms {
  readonly hello: Hello | undefined;
  readonly policy: Policy;
  readonly settings: ResolvedOptions;
  readonly chunkBytes: number | undefined;
  readonly seed: string | undefined;
  readonly version: string | undefined;
  readonly integrity: Integrity | undefined;
}

/**
 * The manifest that this source gets on these terms.
 * @throws TensorwireError `INVALID_ARGUMENT`, `LIMIT_EXCEEDED`, `CODEC_UNSUPPORTED`.
 */
export function outgoingManifest(
  model: ModelInfo | Manifest,
  source: ModelSource | EncodedSource,
  terms: Terms,
): Manifest {
  const { hello, policy, settings } = terms;
  const { registry, windowBytes } = settings;
  const peerMax = hello?.limits.maxChunkBytes ?? settings.limits.maxChunkBytes;
  const manifest = isEncodedSource(source) ? (model as Manifest) : plain();
  function plain(): Manifest {
    const fixed = (source as ModelSource).chunkBytes ?? terms.chunkBytes;
    const chunkBytes = resolveChunkBytes(fixed, windowBytes, peerMax);
    const codecs = model.kind === "raw" ? [] : resolvePolicy(policy, model.tensors, registry);
    const specs = seeded(codecs, terms.seed, terms.version);
    const none = registry.resolve("none");
    const tensors = model.tensors.map(({ name, dtype, shape }, i) => ({
      name,
      dtype,
      shape,
      codec: specs[i] ?? none,
    }));
    return { ...model, tensors, chunkBytes, integrity: terms.integrity };
  }
  // An artifact's chunks are what they are: whether either end can hold them shows before anything is sent.
  if (isEncodedSource(source)) {
    checkArtifactChunks(manifest, source, Math.min(Math.floor(windowBytes / 2), peerMax));
    if (terms.integrity === "sha256" && manifest.integrity !== "sha256") throw withoutSha256(source);
  }
  checkCodecs(manifest, hello);
  return manifest;
}

function checkArtifactChunks({ chunkBytes }: Manifest, { name }: EncodedSource, most: number): void {
  if (chunkBytes <= most) return;
  const message = `${quote(name)} has chunks of ${chunkBytes} bytes, and the two ends take at most ${most}: raise windowBytes to at least ${2 * chunkBytes} on both, or have it made with a smaller chunkBytes`;
  throw new TensorwireError("LIMIT_EXCEEDED", message);
}

function withoutSha256({ name }: EncodedSource): TensorwireError {
  return new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(name)} was made without SHA-256, and its manifest is what it is: make it again with integrity "sha256", or ` +
      "name a codec, and it is encoded anew",
  );
}

/** Whether a peer takes what was described for another one. @throws TensorwireError `LIMIT_EXCEEDED`, `CODEC_UNSUPPORTED`. */
export function checkTerms(manifest: Manifest, hello: Hello | undefined, settings: ResolvedOptions): void {
  const { windowBytes, limits } = settings;
  const peerMax = hello?.limits.maxChunkBytes ?? limits.maxChunkBytes;
  resolveChunkBytes(manifest.chunkBytes, windowBytes, peerMax);
  checkCodecs(manifest, hello);
}

function checkCodecs({ tensors }: Manifest, hello: Hello | undefined): void {
  for (const { name, codec } of tensors) {
    if (!hello || hello.codecs.includes(codec.name)) continue;
    const message = `the peer (${hello.software}) has no codec ${codec.name}, only ${hello.codecs.join(", ")}: choose one of those`;
    throw new TensorwireError("CODEC_UNSUPPORTED", message, { tensor: name });
  }
}
