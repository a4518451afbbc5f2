import { type Manifest, quote, TensorwireError } from "@tensorwire/core";
import { artifactSink } from "./artifact.js";
import { rawFileSink } from "./raw-file.js";
import { safetensorsSink } from "./safetensors.js";
import { shardedSafetensorsSink } from "./sharded.js";
import type { Sink } from "./sink.js";

export interface SinkOptions {
  readonly overwrite?: boolean | undefined;
  readonly maxShardBytes?: number | undefined;
}

/**
 * The sink for a path: `*.twire` keeps the model encoded; a raw file goes to any other path; a model becomes
 * safetensors, in shards where `maxShardBytes` says so or the path is an index's or a directory's.
 */
export function openSink(path: string, manifest: Manifest, { overwrite, maxShardBytes }: SinkOptions): Sink {
  if (path.endsWith(".twire")) return artifactSink(path, { overwrite });
  if (manifest.kind === "raw") return rawFileSink(path, { overwrite });
  const sharded = path.endsWith("/") || path.endsWith(".index.json");
  if (maxShardBytes !== undefined) return shardedSafetensorsSink(path, { overwrite, maxShardBytes });
  if (!sharded) return safetensorsSink(path, { overwrite });
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} asks for shards: say how large (--shard-size, maxShardBytes)`,
  );
}
