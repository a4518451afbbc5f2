import { DEFAULT_WINDOW_BYTES, TensorwireError } from "@tensorwire/core";
import { noUrl, shownUrl } from "../channel/address.js";
import type { HttpLineOptions } from "../channel/http-line.js";
import { DEFAULT_IDLE_TIMEOUT_MS, resolveTimeouts } from "../session/timeouts.js";
import { type ArtifactOptions, type ArtifactSource, artifactSource } from "../source/artifact.js";
import { checkConcurrency, DEFAULT_CONCURRENCY } from "./concurrency.js";
import { HttpReader } from "./http-reader.js";

/** How parts of a file on a web server are asked for. */
export interface RangeOptions {
  /** Range requests at once. Default 4. */
  readonly concurrency?: number | undefined;
  /** Half of it is what is fetched ahead, at most. Default 32 MiB. */
  readonly windowBytes?: number | undefined;
  /** How long its server may be silent, in milliseconds. Default 120,000; 0 is for ever. */
  readonly idleTimeoutMs?: number | undefined;
  /** TLS, and what this end shows for who it is: to the URL's own server, and to no other that it leads to. */
  readonly dial?: HttpLineOptions | undefined;
  /** Ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** The same, for who has another way where there are no ranges. */
interface OpenRangesOptions extends RangeOptions {
  readonly rangesOnly?: boolean | undefined;
  readonly announced?: boolean | undefined;
}

/** Options of `remoteArtifact`. */
export interface RemoteArtifactOptions extends RangeOptions, Omit<ArtifactOptions, "within"> {}

/**
 * An artifact behind any web server that answers Range requests, as a source: its index is fetched when it is opened, and of the
 * rest what is asked for, several ranges at once.
 *
 * @throws TensorwireError `INVALID_ARGUMENT`; when it is opened `CHANNEL_OPEN`, `NOT_FOUND`, `UNAUTHORIZED`, `FORBIDDEN`,
 * `SERVER_BUSY`, `IDLE_TIMEOUT`, `SOURCE_INVALID`; when it is read `SOURCE_CHANGED` and `CHANNEL_CLOSED` too.
 * @example
 * await transferModel(remoteArtifact("https://host/model.twire"), "copy.safetensors");
 */
export function remoteArtifact(url: string | URL, options: RemoteArtifactOptions = {}): ArtifactSource {
  const at = checkWebUrl(String(url));
  checkConcurrency(options.concurrency);
  return artifactSource({ name: shownUrl(at), open: () => openRanges(at, options) }, options);
}

/** Opens a file on a web server, to be read by position. @throws TensorwireError as `remoteArtifact` when it is opened. */
export function openRanges(url: string, options: OpenRangesOptions): Promise<HttpReader> {
  const { concurrency = DEFAULT_CONCURRENCY, windowBytes = DEFAULT_WINDOW_BYTES, ...others } = options;
  const { dial, signal, rangesOnly, announced } = others;
  const { idleTimeoutMs } = resolveTimeouts({
    idleTimeoutMs: options.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS,
  });
  const { tls, token, headers } = dial ?? {};
  const readAheadBytes = Math.floor(windowBytes / 2);
  return HttpReader.open(url, {
    tls,
    token,
    headers,
    concurrency,
    idleTimeoutMs,
    readAheadBytes,
    rangesOnly,
    announced,
    signal,
  });
}

function checkWebUrl(url: string): string {
  if (!URL.canParse(url)) throw noUrl(url);
  if (/^https?:$/.test(new URL(url).protocol)) return url;
  throw new TensorwireError("INVALID_ARGUMENT", `${shownUrl(url)}: only http: and https: URLs have ranges`);
}
