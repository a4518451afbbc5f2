import { type Channel, TensorwireError } from "@tensorwire/core";
import { isLoopback, shownUrl } from "./address.js";
import { dialFault } from "./dial-fault.js";
import { HttpChannel } from "./http.js";
import { ID_PARAMETER, MEDIA_TYPE } from "./http-exchange.js";
import { type HttpAnswer, HttpLine, type HttpLineOptions } from "./http-line.js";
import { statusError } from "./refusal-status.js";

/** How an HTTP channel is opened. */
export interface HttpDialOptions extends HttpLineOptions {
  /** Cancels opening it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens an HTTP channel at a URL. Open it within seconds: to the server, a client that asks for nothing is gone.
 * @throws TensorwireError `CHANNEL_OPEN`, or what the server's status stands for; `ABORTED`.
 * @example
 * const channel = await dialHttp("http://host:9000/models/base", { token });
 * await receiveModel(channel, { to: "copy.safetensors" }).done;
 */
export async function dialHttp(url: string, options: HttpDialOptions = {}): Promise<Channel> {
  const dialled = await tryHttp(url, options);
  if (dialled instanceof HttpChannel) return dialled;
  const { status, location } = dialled;
  const where = location ? `: it has moved to ${shownUrl(location)}` : "";
  throw new TensorwireError(
    "CHANNEL_OPEN",
    `${shownUrl(url)} does not take HTTP channels: it answers with status ${status}${where}`,
    { retryable: status >= 500 },
  );
}

/** A server that answered, but not in the words of HTTP channels. */
export interface Stranger {
  readonly status: number;
  readonly location?: string | undefined;
}

/** As `dialHttp`, but that a server which knows no HTTP channels is no error. */
export async function tryHttp(
  url: string,
  { signal, ...options }: HttpDialOptions = {},
): Promise<HttpChannel | Stranger> {
  signal?.throwIfAborted();
  const at = new URL(url);
  at.hash = "";
  const line = new HttpLine(at, options);
  let answer: HttpAnswer;
  try {
    answer = await line.ask(at, { method: "POST", headers: { "content-type": MEDIA_TYPE }, signal });
  } catch (cause) {
    line.close();
    if (signal?.aborted) throw cause;
    throw dialFault(shownUrl(url), cause);
  }
  const { statusCode, headers, body } = answer;
  body.on("error", () => {}).resume();
  const location = String(headers.location ?? "");
  if (headers["content-type"] === MEDIA_TYPE) {
    const transfer =
      statusCode === 201 && URL.canParse(location, at.href) ? new URL(location, at) : undefined;
    // Nowhere else: with the URL go the credentials.
    if (transfer?.origin === at.origin && transfer.searchParams.has(ID_PARAMETER)) {
      return new HttpChannel(line, transfer, peerOf(at));
    }
    line.close();
    throw statusError(url, statusCode);
  }
  line.close();
  return { status: statusCode, ...(headers.location && { location }) };
}

function peerOf({ protocol, host, hostname }: URL) {
  return { address: host, private: protocol === "https:" || isLoopback(hostname) };
}
