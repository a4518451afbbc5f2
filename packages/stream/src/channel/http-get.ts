import type { Readable } from "node:stream";
import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { dialFault } from "./dial-fault.js";
import type { HttpDialOptions } from "./http-dial.js";
import { HttpLine } from "./http-line.js";
import { shownUrl } from "./address.js";
import { deliverPaced } from "./paced.js";
import { statusError } from "./refusal-status.js";

/**
 * An artifact behind any web server, read by one plain GET: a channel without a way back. What it brings is verified as
 * on every channel.
 * @throws TensorwireError `CHANNEL_OPEN` where the server does not answer, or answers with something else than 200.
 */
export async function httpReadChannel(
  url: string,
  { signal, ...options }: HttpDialOptions = {},
): Promise<Channel> {
  const line = new HttpLine(new URL(url), options);
  try {
    const { statusCode, body } = await line.ask(new URL(url), {
      method: "GET",
      headers: { "accept-encoding": "identity" },
      signal,
    });
    if (statusCode === 200) return new HttpReadChannel(body, line);
    // Dropped, not read: a server may never end what it says of its refusal.
    body.on("error", () => {});
    throw statusError(url, statusCode);
  } catch (cause) {
    line.close();
    if (cause instanceof TensorwireError || signal?.aborted) throw cause;
    throw dialFault(shownUrl(url), cause);
  }
}

class HttpReadChannel implements Channel {
  readonly kind = "http";
  readonly direction = "receive";

  constructor(
    private readonly body: Readable,
    private readonly line: HttpLine,
  ) {}

  open(receiver: ChannelReceiver): void {
    deliverPaced(this.body, receiver);
  }

  send(): Promise<void> {
    return Promise.reject(new TensorwireError("INVALID_ARGUMENT", "a plain GET only receives"));
  }

  async close(): Promise<void> {
    this.body.on("error", () => {});
    this.body.destroy();
    this.line.close();
  }
}
