import { TensorwireError } from "@tensorwire/core";
import { CommonBudget } from "./budget/common-budget.js";
import { memoryChannelPair } from "./channel/memory.js";
import { ChannelEnd } from "./channel/endpoint.js";
import type { StreamOptions } from "./options.js";
import { DEVICE, type ReceiveOptions } from "./receive-options.js";
import { type ReceivedModel, Receiving } from "./receiving.js";
import { Sending } from "./sending.js";
import type { TransferSummary } from "./session/summary.js";
import type { SourceLike } from "./source/open.js";

/** What is about a peer, or the way to it: here there is none. */
type OfPeers = "retry" | "dial" | "idleTimeoutMs" | "stallTimeoutMs" | "concurrency";

/** Options of `transferModel`: those of both ends. */
export interface TransferModelOptions
  extends Omit<StreamOptions, OfPeers>,
    Omit<ReceiveOptions, OfPeers | "to"> {}

/**
 * Moves a model within this process: from a source, by a policy, to a sink. What `streamModel` and `receiveModel` do together,
 * with at most half a window of source bytes at work, wherever they are. What an interrupted call has brought to the same path
 * stays there, and the same call goes on from it.
 *
 * @param to A path (`*.safetensors`; `*.twire` keeps it encoded), a sink, or a function that says so when it is known what comes.
 * @throws TensorwireError with the first cause, of whichever end; then no buffer is left.
 * @example
 * await transferModel("model.safetensors", "packed.twire", { codec: "normfloat4" });
 * await transferModel("packed.twire", "smaller.twire", { codec: "linear2" });
 */
export async function transferModel(
  source: SourceLike,
  to: NonNullable<ReceiveOptions["to"]>,
  options: TransferModelOptions = {},
): Promise<TransferSummary> {
  if (to === DEVICE) {
    const message = `a model goes to a device by receiveModel, which is iterated over (a file of that name is "./${DEVICE}")`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  return joinedModel(source, { ...options, to }).done;
}

/** The same, for whoever may want to iterate over it. */
export function joinedModel(
  source: SourceLike,
  options: TransferModelOptions & Pick<ReceiveOptions, "to">,
): ReceivedModel {
  // The receiver's failure, a signal's included, is the sender's too: what is told to the caller comes from one of them.
  const ours = { retry: false, dial: undefined, idleTimeoutMs: 0, stallTimeoutMs: 0 } as const;
  const apart = { ...ours, signal: undefined, onProgress: undefined, logger: undefined } as const;
  const [near, far] = memoryChannelPair();
  const common = options.budget && new CommonBudget(options.budget);
  const sending = new Sending(source, new ChannelEnd(near), { ...options, ...apart }, common);
  const receiving = { ...options, ...ours, maxBytesPerSecond: undefined };
  return new Receiving(new ChannelEnd(far), receiving, sending);
}
