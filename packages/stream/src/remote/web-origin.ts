import { FOOTER_BYTES, parseFooter, quote, TensorwireError } from "@tensorwire/core";
import { CommonBudget } from "../budget/common-budget.js";
import { shownUrl } from "../channel/address.js";
import { dialWithin } from "../channel/dial-watch.js";
import { HttpChannel } from "../channel/http.js";
import { tryHttp } from "../channel/http-dial.js";
import { httpReadChannel } from "../channel/http-get.js";
import { memoryChannelPair } from "../channel/memory.js";
import { ChannelEnd } from "../channel/endpoint.js";
import type { ResolvedOptions } from "../options.js";
import type { ReceiveOptions } from "../receive-options.js";
import { Sending } from "../sending.js";
import { artifactSource } from "../source/artifact.js";
import type { SourceLike } from "../source/open.js";
import type { HttpReader } from "./http-reader.js";
import { openRanges } from "./remote-artifact.js";

/** What a web server has for a receiver: the end of a channel, and who sends at the other, where that is in this process. */
export interface WebOrigin {
  readonly end: ChannelEnd;
  readonly sending?: Sending | undefined;
}

/**
 * What a URL has to give. A server that knows HTTP channels sends by one. Of an artifact with an index, behind any server that
 * answers Range requests, this side fetches what is wanted, and is its own sender. Anything else is read as it comes, by one plain
 * GET.
 * @param several The same model over several channels, where `concurrency` asks for them.
 * @throws TensorwireError as `dialHttp`; `SOURCE_INVALID` where tensors are to be chosen, and cannot be.
 */
export async function openWebOrigin(
  url: string,
  options: ReceiveOptions,
  settings: ResolvedOptions,
  signal: AbortSignal,
  several?: SourceLike,
): Promise<WebOrigin> {
  const { concurrency = 1 } = options;
  const plainly = { ...options.dial, signal };
  const file = new URL(url).pathname.endsWith(".twire");
  if (!file && concurrency > 1) {
    // A server of models has several channels, and is not asked for files.
    const parts = await indexedFile(url, options, settings, signal, true).catch(() => undefined);
    if (parts) return pulled(url, parts, options, settings);
    if (several) return besides(several, options.budget, settings);
  }
  const within = <T>(open: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    dialWithin(url, settings.idleTimeoutMs, signal, open);
  const dialled = file ? undefined : await within((until) => tryHttp(url, { ...plainly, signal: until }));
  if (dialled instanceof HttpChannel) return { end: new ChannelEnd(dialled) };
  const reader = await indexedFile(url, options, settings, signal);
  if (reader) return pulled(url, reader, options, settings);
  const channel = await within((until) => httpReadChannel(url, { ...plainly, signal: until }));
  return { end: new ChannelEnd(channel) };
}

/** The file at a URL, where it is an artifact with an index and can be read by position. */
async function indexedFile(
  url: string,
  { concurrency, dial, tensors, budget, windowBytes }: ReceiveOptions,
  { idleTimeoutMs, ...settings }: ResolvedOptions,
  signal: AbortSignal,
  announced = false,
): Promise<HttpReader | undefined> {
  // A small budget is not for what waits to be read.
  const ahead = Math.min(
    windowBytes ?? settings.windowBytes,
    (budget?.bytes ?? Number.POSITIVE_INFINITY) / 4,
  );
  let reader: HttpReader | undefined;
  try {
    reader = await openRanges(url, {
      ...{ concurrency, dial, idleTimeoutMs, signal, windowBytes: ahead, rangesOnly: true, announced },
    });
    const footer = reader.tail.subarray(-FOOTER_BYTES);
    if (footer.length === FOOTER_BYTES && parseFooter(footer, reader.size)) return reader;
    const message = `${quote(shownUrl(url))} has no index, so that no tensors can be chosen from it: receive all of it`;
    throw new TensorwireError("SOURCE_INVALID", message);
  } catch (error) {
    await reader?.close();
    const unfit = error instanceof TensorwireError && UNFIT.includes(error.code);
    if (unfit && tensors === undefined) return undefined;
    throw error;
  }
}

/** Faults of what may be read as it comes all the same, and says itself what is wrong with it. */
const UNFIT = ["SOURCE_INVALID", "FRAME_CORRUPT", "PROTOCOL", "VERSION_UNSUPPORTED"];

function pulled(
  url: string,
  reader: HttpReader,
  options: ReceiveOptions,
  settings: ResolvedOptions,
): WebOrigin {
  const { budget } = options;
  const { registry, backend, limits } = settings;
  const artifact = artifactSource(
    { name: shownUrl(url), open: () => Promise.resolve(reader) },
    { registry, backend, limits },
  );
  return besides(artifact, budget, settings);
}

/** A source in this process as the other end. */
function besides(
  source: SourceLike,
  budget: ReceiveOptions["budget"],
  { registry, backend, limits, windowBytes }: ResolvedOptions,
): WebOrigin {
  const [near, far] = memoryChannelPair();
  const common = budget && new CommonBudget(budget);
  const sending = new Sending(
    source,
    new ChannelEnd(near),
    { windowBytes, registry, backend, limits, idleTimeoutMs: 0, stallTimeoutMs: 0 },
    common,
  );
  return { end: new ChannelEnd(far), sending };
}
