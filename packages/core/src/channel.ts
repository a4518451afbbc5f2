/** Who takes what a channel delivers. */
export interface ChannelReceiver {
  /**
   * Takes bytes as they come, in any portions. They are lent for the duration of the call. It never throws and never
   * blocks: credit bounds what a peer may send, so a channel need not be able to pause. A channel without a way back
   * carries no credit: where a promise is returned, it waits for that before it delivers more.
   */
  bytes(portion: Uint8Array): void | Promise<void>;
  /** No more bytes will come: in the peer's orderly way, or by a fault. Called once; nothing is called after it. */
  end(error?: Error): void;
}

/** Who is at the other end, as far as the channel knows. */
export interface ChannelPeer {
  /** Address and port, a socket's path, or what kind of place it is. For logs and limits; proves nothing. */
  readonly address: string;
  /** What it showed in the channel's own headers (`Authorization: Bearer …`). Never logged. */
  readonly credential?: string | undefined;
  /** The subject of its certificate, where TLS has verified one. */
  readonly subject?: string | undefined;
  /** The path that it asked for, where the channel has one. A stranger's: never a file's name as it is. */
  readonly path?: string | undefined;
  /** What stood in its URL behind the path and a question mark, where the channel has one. A stranger's. */
  readonly query?: string | undefined;
  /** A proxy hands on what somebody further off says: the address is the proxy's. */
  readonly forwarded?: true | undefined;
  /** Nobody between reads what is said: TLS, loopback, a Unix socket, this process. */
  readonly private: boolean;
}

/**
 * An ordered, reliable pipe of bytes in both directions, or in one. Frames are cut from its bytes by the parser, so
 * its own message bounds mean nothing.
 */
export interface Channel {
  /** For messages and summaries: `websocket`, `duplex`, `file`, … */
  readonly kind: string;
  /** The other end, where the channel knows of it. */
  readonly peer?: ChannelPeer | undefined;
  /** Which directions exist. One without a way back carries no credit and no receipt. */
  readonly direction: "both" | "send" | "receive";
  /** Starts delivering to `receiver`. Called once, before the first `send`. */
  open(receiver: ChannelReceiver): void;
  /**
   * Writes the parts, in order, after those of earlier calls. Resolves when the parts may be reused and the channel
   * has room for more; rejects when it has failed or closed.
   */
  send(parts: readonly Uint8Array[]): Promise<void>;
  /** Of a channel with a pace: resolves when more of the peer's bytes fit into it. Whoever grants credit waits for that. */
  welcome?(): Promise<void> | undefined;
  /** Of a channel with a pace: what waits to be sent goes at once. For last words. */
  hurry?(): void;
  /**
   * Ends this side after what was sent has left. Without `error` it resolves when the bytes are with the peer's host
   * or, for a file, durable under its name; with `error` it drops everything at once, and a file disappears.
   * Idempotent; never rejects with `error`.
   */
  close(error?: Error): Promise<void>;
}
