import type { Readable } from "node:stream";
import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { request } from "undici";
import { deliverPaced } from "./paced.js";

/**
 * An artifact behind any web server, read by one plain GET: a channel without a way back. What it brings is verified as
 * on every channel.
 * @throws TensorwireError `CHANNEL_OPEN` where the server does not answer, or answers with something else than 200.
 */
export async function httpReadChannel(
  url: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<Channel> {
  const abort = new AbortController();
  try {
    const { statusCode, body } = await request(url, {
      signal: signal ? AbortSignal.any([signal, abort.signal]) : abort.signal,
      headers: { "accept-encoding": "identity" },
      // Progress decides, not the clock: a slow server is no dead one.
      bodyTimeout: 0,
    });
    if (statusCode === 200) return new HttpReadChannel(body, abort);
    // Dropped, not read: a server may never end what it says of its refusal.
    body.on("error", () => {});
    abort.abort();
    throw new TensorwireError("CHANNEL_OPEN", `${url} answers with status ${statusCode}`, {
      retryable: statusCode >= 500,
    });
  } catch (cause) {
    if (cause instanceof TensorwireError || signal?.aborted) throw cause;
    throw new TensorwireError("CHANNEL_OPEN", `cannot reach ${url}: ${(cause as Error).message}`, { cause });
  }
}

class HttpReadChannel implements Channel {
  readonly kind = "http";
  readonly direction = "receive";

  constructor(
    private readonly body: Readable,
    private readonly abort: AbortController,
  ) {}

  open(receiver: ChannelReceiver): void {
    deliverPaced(this.body, receiver);
  }

  send(): Promise<void> {
    return Promise.reject(new TensorwireError("INVALID_ARGUMENT", "a plain GET only receives"));
  }

  async close(): Promise<void> {
    this.body.on("error", () => {});
    this.abort.abort(new TensorwireError("CHANNEL_CLOSED", "the download was ended here"));
  }
}
