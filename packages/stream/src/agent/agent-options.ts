import { TensorwireError } from "@tensorwire/core";
import type { ListenOptions } from "../channel/listening-place.js";
import type { TlsOptions } from "../channel/tls-options.js";
import type { TransferOptions } from "../options.js";
import type { AgentEvent } from "./agent-event.js";
import type { LocalPlace } from "./local-server.js";
import { MAX_EXPIRES_SECONDS } from "./requests.js";
import type { Terms } from "./terms.js";

export const DEFAULT_KEEP_MS = 24 * 60 * 60 * 1000;
export const DEFAULT_PATIENCE_MS = 60_000;
export const DEFAULT_RESERVE_BYTES = 64 * 1024 * 1024;

/** Options of `createAgent`: what the flags of `tensorwire agent` say, see docs/agent.md. */
export interface AgentOptions {
  /** The agent's own folder. Made where there is none. */
  readonly directory: string;
  /** Where programs of this machine reach it. Default: the Unix socket `agent.sock` in the directory. */
  readonly local?: LocalPlace | undefined;
  /** The file of the token that they show. Default: none at a Unix socket, `token` in the directory on loopback. */
  readonly localTokenFile?: string | undefined;
  /** Where model files change hands. Default: `exchange` in the directory. */
  readonly exchange?: string | undefined;
  /** Bytes that stay free there. Default 64 MiB. */
  readonly reserveBytes?: number | undefined;
  /** Folders beside it whose files may be published, sent and fetched to. */
  readonly allow?: readonly string[] | undefined;
  /** How long anything stays that nobody frees, in milliseconds. Default: a day. */
  readonly keepMs?: number | undefined;
  /** How long a transfer goes on trying while nothing moves, in milliseconds. Default: a minute. */
  readonly patienceMs?: number | undefined;
  /** The agent that has the models of this one: `wss://host:port`. */
  readonly home?: string | undefined;
  /** This agent is a home: where others reach it. */
  readonly listen?: ListenOptions | undefined;
  /** What is shown to the home. */
  readonly dial?: { readonly tls?: TlsOptions | undefined; readonly token?: string | undefined } | undefined;
  /** How models are encoded that nobody says otherwise of. Default: not at all. */
  readonly encoding?: Omit<Terms, "windowBytes"> | undefined;
  /** What all transfers have in common. */
  readonly transfer?: Omit<TransferOptions, "signal" | "onProgress" | "dial" | "retry"> | undefined;
  /** Is told of transfers that are over or interrupted, and of who is turned away. */
  readonly onEvent?: ((event: AgentEvent) => void) | undefined;
}

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkAgentOptions({ home, listen, keepMs, patienceMs, reserveBytes }: AgentOptions): void {
  if (home !== undefined && listen !== undefined) {
    const message = "an agent has a home (--home) or is one (--listen): not both";
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  if (keepMs !== undefined && !(keepMs >= 1000 && keepMs <= MAX_EXPIRES_SECONDS * 1000)) {
    throw new TensorwireError("INVALID_ARGUMENT", `keepMs is a time from a second to 30 days, not ${keepMs}`);
  }
  for (const [name, value] of Object.entries({ patienceMs, reserveBytes })) {
    if (value === undefined || value >= 0) continue;
    throw new TensorwireError("INVALID_ARGUMENT", `${name} is a number of at least 0, not ${value}`);
  }
}
