import {
  type CodecBackend,
  type CodecRegistry,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { artifactSink } from "./artifact.js";
import type { TargetOptions } from "./part-file.js";
import { rawFileSink } from "./raw-file.js";
import { safetensorsSink } from "./safetensors.js";
import { shardedSafetensorsSink } from "./sharded.js";
import type { Sink } from "./sink.js";

export interface SinkOptions extends TargetOptions {
  /** What an artifact that an earlier attempt left is verified with. */
  readonly registry?: CodecRegistry | undefined;
  readonly backend?: Pick<CodecBackend, "hash" | "unpack"> | undefined;
  readonly maxShardBytes?: number | undefined;
}

/**
 * The sink for a path: `*.twire` keeps the model encoded; a raw file goes to any other path; a model becomes
 * safetensors, in shards where `maxShardBytes` says so or the path is an index's or a directory's.
 */
export function openSink(path: string, manifest: Manifest, options: SinkOptions): Sink {
  const { overwrite, resume, maxShardBytes, parts = {}, registry, backend } = options;
  const target = { overwrite, resume, parts };
  if (path.endsWith(".twire")) return artifactSink(path, { ...target, registry, backend });
  if (manifest.kind === "raw") return rawFileSink(path, target);
  const sharded = path.endsWith("/") || path.endsWith(".index.json");
  if (maxShardBytes !== undefined) return shardedSafetensorsSink(path, { ...target, maxShardBytes });
  if (!sharded) return safetensorsSink(path, target);
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} asks for shards: say how large (--shard-size, maxShardBytes)`,
  );
}
