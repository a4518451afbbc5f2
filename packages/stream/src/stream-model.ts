import type { Duplex } from "node:stream";
import {
  type Channel,
  type CodecRegistry,
  encodeManifest,
  type Hello,
  type Limits,
  type Manifest,
  type ModelInfo,
  type Policy,
  planManifest,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import type WebSocket from "ws";
import type { StreamPair } from "./channel/duplex.js";
import type { Listener } from "./channel/listen.js";
import { openConnection } from "./channel/open.js";
import { resolveChunkBytes, resolveOptions, type StreamOptions } from "./options.js";
import { Progress } from "./session/progress.js";
import { ModelSender } from "./session/sender.js";
import type { TransferSummary } from "./session/summary.js";
import { TransferLife } from "./session/transfer.js";
import { openSource } from "./source/open.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "./source/source.js";
import type { TensorMap } from "./source/tensors.js";

/** What `streamModel` takes: a path, tensors in memory, or a source. */
export type SourceLike = string | TensorMap | ModelSource | EncodedSource;

/**
 * Where a model goes: a URL (`ws:`, `wss:`), the path of an artifact to write (`*.twire`), an open `WebSocket`, a
 * `Duplex` or pair of streams, a channel, or a listener, whose first peer that gets as far as HELLO is served.
 */
export type Destination = string | URL | WebSocket | Duplex | StreamPair | Channel | Listener;

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
  const settings = await resolveOptions(options);
  const life = new TransferLife(options.signal);
  const progress = new Progress(options.onProgress);
  const policy = policyOf(options, settings.registry);
  if (options.chunkBytes !== undefined) {
    resolveChunkBytes(options.chunkBytes, settings.windowBytes, settings.limits.maxChunkBytes);
  }
  let opened: ModelSource | EncodedSource | undefined;
  try {
    if (life.error) throw life.error;
    opened = await openSource(source, options, settings);
    const model = await opened.open();
    const { connection, hello, owned } = await openConnection(destination, "send", options, settings);
    try {
      const manifest = describe(model, opened, hello, policy, { ...settings, chunkBytes: options.chunkBytes });
      const plan = planManifest(manifest, settings.limits, settings.registry);
      const sender = new ModelSender(connection, { ...settings, manifest, plan, source: opened, progress, life, owned });
      const summary = await sender.run();
      if (owned) await connection.close();
      return summary;
    } catch (error) {
      life.fail(error);
      if (owned) await connection.close(life.error);
      throw life.error;
    }
  } catch (error) {
    life.fail(error);
    throw life.error;
  } finally {
    life.end();
    await opened?.close();
  }
}
