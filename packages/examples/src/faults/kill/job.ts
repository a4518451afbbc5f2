import type { ErrorCode, StreamOptions, TransferSummary } from "@tensorwire/stream";
import type { ChannelName } from "../arrangement.js";

/** What a process that is one end of a transfer is to do. */
export interface EndJob {
  readonly role: "sender" | "receiver";
  /** The model's file: what is sent, or what it becomes. */
  readonly file: string;
  readonly channel: ChannelName;
  /** Where to dial; without it, it listens. */
  readonly dial?: string | undefined;
  /** Of a Unix socket to listen on. */
  readonly path: string;
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
  readonly options: StreamOptions;
  /** A sender writes down here what it was asked for, and what it has sent: a file outlives who writes it. */
  readonly ledger?: string | undefined;
}

/** What it says. */
export type EndReport =
  | { readonly is: "listening"; readonly url: string }
  | { readonly is: "done"; readonly summary: TransferSummary }
  | { readonly is: "failed"; readonly code: ErrorCode | "not ours"; readonly message: string };
