import type { TransferOptions } from "../options.js";
import { SERVER_STALL_TIMEOUT_MS } from "../session/timeouts.js";
import type { FindModel } from "./publications.js";
import type { OnReceive } from "./reception.js";
import type { UploadOptions } from "./served-transfer.js";
import type { ServerLimits } from "./server-limits.js";
import type { WebPlaceOptions } from "./web-place.js";

/** Options of `createModelServer`. Those of a transfer are for all of its transfers. */
export interface ModelServerOptions
  extends WebPlaceOptions,
    Omit<TransferOptions, "signal" | "onProgress" | "dial" | "limits" | "retry"> {
  /** Where the names of models begin in a URL. Default `/models/`. */
  readonly prefix?: string | undefined;
  /** Finds a model that is not published by name, when a peer asks for it. */
  readonly find?: FindModel | undefined;
  /** How errors call the model of that name, where the name has more in it than people call it by. Default: the name, quoted. */
  readonly called?: ((name: string) => string) | undefined;
  /** Says where a model goes that a peer sends, or refuses it. Default: under its name in `uploads`. */
  readonly onReceive?: OnReceive | undefined;
  /** The folder that models are written to, and nothing outside it. Without it, and without `onReceive`, none are taken. */
  readonly uploads?: string | undefined;
  /** How models that peers send are written. */
  readonly receive?: UploadOptions | undefined;
  /** Answers Prometheus, at `/metrics` or another path: whoever is let in may read it. Default false. */
  readonly metrics?: boolean | string | undefined;
  /**
   * A page on which transfers are seen, at `/dashboard` or another path: for whoever is let in and may `watch`. Default false.
   */
  readonly dashboard?: boolean | string | undefined;
  /** What the server bears at once, see `docs/limits.md`. */
  readonly limits?: Partial<ServerLimits> | undefined;
  /** What a peer may announce, see `docs/limits.md`. */
  readonly modelLimits?: TransferOptions["limits"];
}

/** What is a server's own affair left out, the rest is for its transfers. */
export function transferOptions(options: ModelServerOptions): TransferOptions {
  const {
    prefix,
    find,
    called,
    onReceive,
    uploads,
    receive,
    limits,
    modelLimits,
    metrics,
    dashboard,
    ...others
  } = options;
  const { server, url, host, port, tls, insecure, authorize, ...transfer } = others;
  const { stallTimeoutMs = SERVER_STALL_TIMEOUT_MS } = transfer;
  return { ...transfer, stallTimeoutMs, limits: modelLimits };
}
