/** A crowd of transfers between one process, the server, whose memory is looked at, and all its peers in another. */
export interface CrowdSize {
  /** Transfers at once. */
  readonly transfers: number;
  /** How many of them are slow: they begin first, and half way they wait until all others are done. */
  readonly slow: number;
  /** What the server's transfers may take together. */
  readonly budgetBytes: number;
  readonly windowBytes: number;
  readonly chunkBytes: number;
  /** Source bytes of each model. */
  readonly modelBytes: number;
}

/** What the server does in all transfers. */
export type ServerRole = "receive" | "send";

export interface ServerTask extends CrowdSize {
  readonly role: ServerRole;
  /** For files, empty. */
  readonly scratch: string;
}

export interface PeersTask extends CrowdSize {
  readonly role: ServerRole;
  readonly url: string;
}

/** What the parent tells either process. */
export type Order =
  /** The server takes so many peers; so many peers come, the first of them slow. */
  | { readonly kind: "begin"; readonly transfers: number; readonly slow: number }
  /** The slow ones may go on. */
  | { readonly kind: "release" };

/** What either process tells the parent. */
export type Word =
  | { readonly kind: "ready"; readonly url?: string }
  /** A slow peer stands still. */
  | { readonly kind: "stalled" }
  /** A transfer is over, at the peers. */
  | { readonly kind: "done"; readonly slow: boolean; readonly error?: string }
  /** All transfers that were begun are over at the server. */
  | {
      readonly kind: "idle";
      readonly errors: readonly string[];
      readonly reservedBytes: number;
      readonly mostReservedBytes: number;
    };

export function say(word: Word): void {
  process.send!(word);
}

export const CODECS = ["none", "blockwise8", "normfloat4", "lossless"] as const;
