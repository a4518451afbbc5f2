import { quote, TensorwireError } from "@tensorwire/core";
import { shownUrl } from "../channel/address.js";
import type { TlsOptions } from "../channel/tls-options.js";
import type { TransferOptions } from "../options.js";
import { streamModel } from "../stream-model.js";
import type { Move } from "./agent-transfer.js";
import type { Exchange } from "./exchange.js";
import type { Home } from "./home.js";
import { patiently } from "./patience.js";
import type { SendRequest } from "./requests.js";
import { termsOf } from "./terms.js";

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
  return async (record, context) => {
    const { path, to } = record.request as unknown as SendRequest;
    const file = await exchange.source(path);
    const known = home?.isAt(to) === true;
    const secure = /^(?:wss|https|tls):/i.test(to);
    const tls = secure && dial.tls ? (known ? dial.tls : strangersTls(dial.tls)) : undefined;
    const token = known ? dial.token : undefined;
    const { sourceBytes, wireBytes } = await patiently(patienceMs, context, (onProgress) =>
      streamModel(file.open(), to, {
        ...{ ...options, ...termsOf(record), retry: false },
        ...{ dial: { tls, token }, signal: context.signal, onProgress },
      }),
    );
    return { sourceBytes, totalBytes: sourceBytes, wireBytes };
  };
}

/** Who is believed, and nothing of who this is: a certificate is a credential, and a home's name is not another host's. */
const strangersTls = ({ ca, rejectUnauthorized }: TlsOptions): TlsOptions => ({ ca, rejectUnauthorized });

/** @throws TensorwireError `INVALID_ARGUMENT` for what is no URL of a host. */
export function checkDestination(url: string): string {
  if (/^(?:wss?|https?|tcp|tls):\/\//i.test(url) && URL.canParse(url) && !url.includes("#")) return url;
  const message = `${quote(shownUrl(url))} is no URL of ws://, wss://, http://, https://, tcp:// or tls://`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}
