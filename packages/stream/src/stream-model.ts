import { type Endpoint, filePath } from "./channel/endpoint.js";
import type { StreamOptions } from "./options.js";
import { Sending } from "./sending.js";
import type { TransferSummary } from "./session/summary.js";
import type { SourceLike } from "./source/open.js";
import type { OneShotSource } from "./source/source.js";
import { transferModel } from "./transfer-model.js";

/**
 * Where a model goes: a URL (`ws:`, `wss:`, `http:`, `https:`, `tcp:`, `tls:`, `unix:`), the path of an artifact to write (`*.twire`), an
 * open `WebSocket`, a `Duplex` or pair of streams, a channel, or a listener, whose first peer that gets as far as HELLO is
 * served.
 */
export type Destination = Endpoint;

/** What `streamModel` takes with a source: one that can be read once cannot be read again for another attempt. */
export type StreamOptionsOf<S> = S extends OneShotSource
  ? StreamOptions & { readonly retry?: false | undefined }
  : StreamOptions;

/**
 * Sends a model. Resolves with the receiver's receipt: everything is verified there, and durable where its sink is; on
 * a channel without a way back it resolves when the bytes are out, with `confirmed: false`. Of what an interrupted call has
 * brought to the same place only the rest is sent. To the path of an artifact it is `transferModel`.
 *
 * @throws TensorwireError with the first cause; then the peer was told, and no buffer is left.
 * @example
 * const summary = await streamModel("model.safetensors", "ws://host:9000", { codec: "normfloat4" });
 */
export async function streamModel<S extends SourceLike>(
  source: S,
  destination: Destination,
  options: StreamOptionsOf<S> = {} as StreamOptionsOf<S>,
): Promise<TransferSummary> {
  const path = filePath(destination);
  if (path?.endsWith(".twire") && !isForPeers(options)) return transferModel(source, path, options);
  return new Sending(source, destination, options).run();
}

/** What makes no sense with a file is refused where a peer would be dialled. */
function isForPeers({ retry, dial }: StreamOptions): boolean {
  const attempts = typeof retry === "object" ? retry.attempts : undefined;
  return dial?.token !== undefined || (Boolean(retry) && attempts !== 0);
}
