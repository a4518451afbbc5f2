import { quote, TensorwireError } from "@tensorwire/core";
import { shownUrl } from "../channel/address.js";
import type { TransferOptions } from "../options.js";
import { streamModel } from "../stream-model.js";
import type { Move } from "./agent-transfer.js";
import type { Exchange } from "./exchange.js";
import type { Home } from "./home.js";
import { patiently } from "./patience.js";
import { encodingOf, type SendRequest } from "./requests.js";

export interface SendingFileParts {
  readonly exchange: Exchange;
  readonly home: Home | undefined;
  /** The TLS material that is shown to whoever is dialled. */
  readonly dial: Pick<NonNullable<TransferOptions["dial"]>, "tls" | "token">;
  readonly options: TransferOptions;
  readonly patienceMs: number;
}

/** Sends a file to whoever receives at a URL. */
export function sendingFile({ exchange, home, dial, options, patienceMs }: SendingFileParts): Move {
  return async ({ request: given }, context) => {
    const request = given as unknown as SendRequest;
    const { path, to } = request;
    const file = await exchange.source(path);
    const tls = /^(?:wss|https|tls):/i.test(to) ? dial.tls : undefined;
    const token = home?.isAt(to) ? dial.token : undefined;
    const { sourceBytes, wireBytes } = await patiently(patienceMs, context, (onProgress) =>
      streamModel(file.open(), to, {
        ...{ ...options, ...encodingOf(request), retry: false },
        ...{ dial: { tls, token }, signal: context.signal, onProgress },
      }),
    );
    return { sourceBytes, totalBytes: sourceBytes, wireBytes };
  };
}

/** @throws TensorwireError `INVALID_ARGUMENT` for what is no URL of a host. */
export function checkDestination(url: string): string {
  if (/^(?:ws|http|tcp|tls)s?:\/\//i.test(url) && URL.canParse(url) && !url.includes("#")) return url;
  const message = `${quote(shownUrl(url))} is no URL of ws://, wss://, http://, https://, tcp:// or tls://`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}
