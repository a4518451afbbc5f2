import type { Endpoint } from "./channel/endpoint.js";
import type { GpuDevice } from "@tensorwire/quant-native/gpu";
import type { DEVICE, ReceiveOptions } from "./receive-options.js";
import { type ReceivedModel, Receiving } from "./receiving.js";
import { remoteSource } from "./remote/remote-source.js";
import type { ReceivedDeviceTensor } from "./sink/device-memory.js";
import { joinedModel } from "./transfer-model.js";

/**
 * Where a model comes from: a URL (`ws:`, `wss:`, `http:`, `https:`, `tcp:`, `tls:`, `unix:`; an artifact behind any web server too), the
 * path of an artifact (`*.twire`), an open `WebSocket`, a `Duplex` or pair of streams, a channel, or a listener, whose first peer that announces a model is served.
 */
export type Origin = Endpoint;

/**
 * Receives a model, into a path or sink (`to`) or by iteration.
 *
 * @throws TensorwireError through `done`, `manifest` and the iterators: the first cause.
 * @example
 * for await (const { name, dtype, shape, data } of receiveModel("ws://host:9000")) use(name, data);
 * await receiveModel("ws://host:9000", { to: "copy.safetensors" }).done;
 */
export function receiveModel(
  origin: Origin,
  options: ReceiveOptions & { readonly to: typeof DEVICE; readonly device: GpuDevice },
): ReceivedModel<ReceivedDeviceTensor>;
export function receiveModel(origin: Origin, options?: ReceiveOptions): ReceivedModel;
export function receiveModel(origin: Origin, options: ReceiveOptions = {}): ReceivedModel<unknown> {
  const { concurrency = 1 } = options;
  if (concurrency === 1) return new Receiving(origin, options);
  return isWeb(origin)
    ? new Receiving(origin, options, undefined, () => severalOf(origin, options))
    : overSeveral(origin, options);
}

/** Whether it depends on what a web server answers with, how several connections share the work. */
function isWeb(origin: Origin): boolean {
  return (typeof origin === "string" || origin instanceof URL) && /^https?:/i.test(String(origin));
}

/** What is about the server is for its connections; what is about the model, for the end that it goes to. */
function overSeveral(origin: Origin, options: ReceiveOptions): ReceivedModel {
  const { retry, dial, idleTimeoutMs, stallTimeoutMs, maxBytesPerSecond, ...ours } = options;
  return joinedModel(severalOf(origin, options), { ...ours, integrity: undefined, tensors: undefined });
}

function severalOf(origin: Origin, options: ReceiveOptions): ReturnType<typeof remoteSource> {
  const { retry, dial, idleTimeoutMs, stallTimeoutMs, maxBytesPerSecond } = options;
  const { concurrency, windowBytes, limits, registry, budget, integrity, tensors } = options;
  // What a device is for is the end that decodes.
  const backend = typeof options.backend === "object" ? options.backend : undefined;
  const theirs = { retry, dial, idleTimeoutMs, stallTimeoutMs, maxBytesPerSecond };
  return remoteSource(origin as string | URL, {
    ...{ ...theirs, concurrency, windowBytes, limits, backend, registry, budget, integrity, tensors },
  });
}
