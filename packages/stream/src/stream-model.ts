import {
  type Hello,
  type Integrity,
  type Manifest,
  type ModelInfo,
  type Policy,
  planManifest,
  quote,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import { type Endpoint, openConnection } from "./channel/open.js";
import {
  checkStreamOptions,
  type ResolvedOptions,
  resolveChunkBytes,
  resolveOptions,
  type StreamOptions,
} from "./options.js";
import { ErrorFeedback } from "./residuals/error-feedback.js";
import { ResidualFile } from "./residuals/residual-file.js";
import type { Connection } from "./session/connection.js";
import { LOSSLESS } from "./session/exact.js";
import { Progress } from "./session/progress.js";
import { seeded } from "./session/seed.js";
import { ModelSender } from "./session/sender.js";
import type { TransferSummary } from "./session/summary.js";
import { TransferLife } from "./session/transfer.js";
import { openSource } from "./source/open.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "./source/source.js";
import type { TensorMap } from "./source/tensors.js";

/** What `streamModel` takes: a path, tensors in memory, or a source. */
export type SourceLike = string | TensorMap | ModelSource | EncodedSource;

/**
 * Where a model goes: a URL (`ws:`, `wss:`, `tcp:`, `tls:`, `unix:`), the path of an artifact to write (`*.twire`), an
 * open `WebSocket`, a `Duplex` or pair of streams, a channel, or a listener, whose first peer that gets as far as HELLO is
 * served.
 */
export type Destination = Endpoint;

/**
 * Sends a model. Resolves with the receiver's receipt: everything is verified there, and durable where its sink is; on
 * a channel without a way back it resolves when the bytes are out, with `confirmed: false`.
 *
 * @throws TensorwireError with the first cause; then the peer was told, and no buffer and no partial file is left.
 * @example
 * const summary = await streamModel("model.safetensors", "ws://host:9000", { codec: "normfloat4" });
 */
export async function streamModel(
  source: SourceLike,
  destination: Destination,
  options: StreamOptions = {},
): Promise<TransferSummary> {
  const life = new TransferLife(options.signal);
  let opened: ModelSource | EncodedSource | undefined;
  let connection: Connection | undefined;
  let owned = false;
  let residuals: ResidualFile | undefined;
  try {
    checkStreamOptions(options);
    const settings = await resolveOptions(options);
    const policy = policyOf(options);
    if (life.error) throw life.error;
    const from = await openSource(source, options, settings);
    opened = from;
    if (options.residuals !== undefined && isEncodedSource(from)) throw encodedAlready(from);
    const model = await from.open();
    ({ connection, owned } = await openConnection(destination, "send", options, settings));
    // A channel without a way back carries no HELLO either: whoever reads it takes it as it is.
    const hello = connection.channel.direction === "both" ? await life.race(connection.hello) : undefined;
    const { chunkBytes, seed, integrity, compress = "never", nonFinite = "exact" } = options;
    const manifest = describe(model, from, { hello, policy, settings, chunkBytes, seed, integrity });
    const plan = planManifest(manifest, settings.limits, settings.registry);
    const progress = new Progress(options.onProgress, (error) => life.fail(error));
    const { maxManifestBytes } = hello?.limits ?? settings.limits;
    const transfer = { manifest, plan, source: from, progress, life, maxManifestBytes, owned };
    // Whoever reads a channel without a way back has what this side has.
    const known = settings.registry.names();
    const lossless = [known, hello?.codecs ?? known].every((names) => names.includes(LOSSLESS));
    const encoding = { compress: compress === "auto", nonFinite, lossless };
    if (options.residuals !== undefined) {
      residuals = await ResidualFile.open(options.residuals, manifest, settings.limits);
    }
    const feedback =
      residuals && new ErrorFeedback(residuals, { manifest, plan, ...settings, jobs: life.jobs });
    const sender = new ModelSender(connection, { ...settings, ...transfer, ...encoding, feedback });
    opened = undefined;
    const summary = await sender.run();
    // Of a peer that has confirmed nothing can be taken back; nobody confirms a file, which is there when it is closed.
    if (summary.confirmed) await residuals?.replace();
    // A file appears under its name when its channel is closed: not before that is the transfer done.
    if (owned) await connection.close();
    if (!summary.confirmed) await residuals?.replace();
    progress.done();
    return summary;
  } catch (error) {
    life.fail(error);
    if (owned) await connection?.close(life.error);
    await residuals?.abort();
    throw life.error;
  } finally {
    life.end();
    await opened?.close();
  }
}

function encodedAlready({ name }: EncodedSource): TensorwireError {
  return new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(name)} is encoded already, and what that left out is not known: send the model itself with residuals`,
  );
}

function withoutSha256({ name }: EncodedSource): TensorwireError {
  return new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(name)} was made without SHA-256, and its manifest is what it is: make it again with integrity "sha256", or ` +
      "name a codec, and it is encoded anew",
  );
}

function policyOf({ codec, policy, minElements }: StreamOptions): Policy {
  if (policy && codec !== undefined) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "give a codec or a policy, not both: a policy names its own default codec",
    );
  }
  return {
    ...(policy ?? (codec !== undefined && { codec })),
    ...(minElements !== undefined && { minElements }),
  };
}

interface Terms {
  readonly hello: Hello | undefined;
  readonly policy: Policy;
  readonly settings: ResolvedOptions;
  readonly chunkBytes: number | undefined;
  readonly seed: string | undefined;
  readonly integrity: Integrity | undefined;
}

/** The manifest that this source gets on these terms. */
function describe(model: ModelInfo | Manifest, source: ModelSource | EncodedSource, terms: Terms): Manifest {
  const { hello, policy, settings } = terms;
  const { registry, windowBytes } = settings;
  const peerMax = hello?.limits.maxChunkBytes ?? settings.limits.maxChunkBytes;
  const manifest = isEncodedSource(source) ? (model as Manifest) : plain();
  function plain(): Manifest {
    const fixed = (source as ModelSource).chunkBytes ?? terms.chunkBytes;
    const chunkBytes = resolveChunkBytes(fixed, windowBytes, peerMax);
    const codecs = model.kind === "raw" ? [] : resolvePolicy(policy, model.tensors, registry);
    const specs = seeded(codecs, terms.seed);
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
    resolveChunkBytes(manifest.chunkBytes, windowBytes, peerMax);
    if (terms.integrity === "sha256" && manifest.integrity !== "sha256") throw withoutSha256(source);
  }
  for (const { name, codec } of manifest.tensors) {
    if (!hello || hello.codecs.includes(codec.name)) continue;
    const message = `the peer (${hello.software}) has no codec ${codec.name}, only ${hello.codecs.join(", ")}: choose one of those`;
    throw new TensorwireError("CODEC_UNSUPPORTED", message, { tensor: name });
  }
  return manifest;
}
