import {
  type Answer,
  asTensorwireError,
  type Channel,
  type ChannelPeer,
  type Hello,
  TensorwireError,
} from "@tensorwire/core";
import type { Visitors } from "../channel/server.js";
import { WaitingChannel } from "../channel/waiting-channel.js";
import { type Deferred, deferred } from "../session/deferred.js";
import { HelloReader } from "./hello-reader.js";
import type { Authorize, Principal } from "./principal.js";
import { turnAway } from "./turning-away.js";

/** What may be known of a peer by whoever it is none of: all but the credential. */
export type PublicPeer = Omit<ChannelPeer, "credential">;

/** Somebody who was let in. */
export interface Visitor<Opened extends Channel = Channel> {
  /** Nobody has opened it yet: what came is held, from the preamble on. */
  readonly channel: Opened;
  readonly peer: PublicPeer;
  readonly hello: Omit<Hello, "credential">;
  /** Undefined where nobody was asked. */
  readonly principal: Principal | undefined;
  /** Tells it that it was let in for nothing, and closes the channel. Never rejects. */
  refuse(error: TensorwireError): Promise<void>;
}

export interface GateOptions {
  readonly authorize?: Authorize | undefined;
  /** No more are let in at the moment. */
  readonly full: () => boolean;
  readonly enter: (visitor: Visitor<WaitingChannel>) => void;
  readonly refused?: ((error: TensorwireError, peer: PublicPeer) => void) | undefined;
  /** How long a peer may take to say HELLO; 0 is for ever. */
  readonly helloTimeoutMs: number;
}

/** So many may stand before a gate at once; one more, and the one that has stood there longest goes. */
export const MAX_KNOCKING = 256;

/** Bytes of each of them: a HELLO with the longest credential, and as much again. */
export const MAX_KNOCKING_BYTES = 32 * 1024;

const UNKNOWN: ChannelPeer = { address: "unknown", private: false };

/**
 * Where peers wait until it is known who they are. A credential is looked at when the channel's headers have brought it,
 * else when HELLO has; nothing else of HELLO is acted on before that, and no frame behind it is looked at. Those who stand
 * here hold a bounded number of places and bytes, and cannot keep others out: a newcomer takes the oldest one's place.
 */
export class Gate implements Visitors {
  /** Those who stand here, the oldest first. */
  readonly #knocking = new Set<Deferred<never>>();
  /** Who was let in by their headers, before there was a channel. */
  readonly #known = new WeakMap<ChannelPeer, Principal | "anybody">();
  #closed: TensorwireError | undefined;

  constructor(private readonly options: GateOptions) {}

  get full(): boolean {
    return this.#closed !== undefined || this.options.full();
  }

  /** How many stand here. */
  get knocking(): number {
    return this.#knocking.size;
  }

  /**
   * For channels with headers: who comes, before there is a channel.
   * @param gone Aborts when the peer has left.
   * @throws TensorwireError `UNAUTHORIZED`, `SERVER_BUSY`.
   */
  async admit(peer: ChannelPeer, gone?: AbortSignal): Promise<void> {
    this.#known.set(peer, (await this.identify(peer, gone)) ?? "anybody");
  }

  /** The same, for who will have no channel that could enter. Undefined where nobody is asked. */
  identify(peer: ChannelPeer, gone?: AbortSignal): Promise<Principal | undefined> {
    return this.#knock(peer, async (away) => {
      const onGone = (): void => away.reject(left());
      if (gone?.aborted) onGone();
      gone?.addEventListener("abort", onGone, { once: true });
      const asked = this.#ask(peer.credential, peer);
      return Promise.race([asked, away.promise]);
    });
  }

  enter(channel: Channel): void {
    const peer = channel.peer ?? UNKNOWN;
    const reader = new HelloReader();
    const away = (error?: Error): void => reader.fail(asTensorwireError(error ?? left(), "CHANNEL_CLOSED"));
    const waiting = new WaitingChannel(channel, away, {
      peek: (portion) => reader.push(portion),
      maxBytes: MAX_KNOCKING_BYTES,
    });
    this.#knock(peer, (sentAway) => this.#meet(peer, waiting, reader, sentAway)).then(
      (visitor) => this.options.enter(visitor),
      (error: TensorwireError) => void turnAway(waiting, error),
    );
  }

  async #meet(
    peer: ChannelPeer,
    channel: WaitingChannel,
    reader: HelloReader,
    away: Deferred<never>,
  ): Promise<Visitor<WaitingChannel>> {
    away.promise.catch((error: TensorwireError) => reader.fail(error));
    const timer = this.#timer(away);
    const { credential, ...hello } = await reader.hello.finally(() => clearTimeout(timer));
    channel.onLeft = (error) => away.reject(asTensorwireError(error ?? left(), "CHANNEL_CLOSED"));
    const known = this.#known.get(peer);
    // What headers have shown, or have not, stands: nobody becomes somebody else in HELLO.
    const shown = peer.path === undefined ? credential : peer.credential;
    const asked = known ?? this.#ask(shown, peer);
    const principal = await Promise.race([asked, away.promise]);
    return {
      channel,
      peer: withoutCredential(peer),
      hello,
      principal: principal === "anybody" ? undefined : principal,
      refuse: (error) => turnAway(channel, error),
    };
  }

  /** Lets nobody in any more, and sends away who stands here. */
  close(reason: TensorwireError): void {
    this.#closed ??= reason;
    for (const away of this.#knocking) away.reject(reason);
  }

  async #knock<T>(peer: ChannelPeer, pass: (away: Deferred<never>) => Promise<T>): Promise<T> {
    const away = deferred<never>();
    try {
      if (this.#closed) throw this.#closed;
      if (this.full) throw busy();
      if (this.#knocking.size >= MAX_KNOCKING) this.#makeRoom();
      this.#knocking.add(away);
      return await pass(away);
    } catch (cause) {
      const error = asTensorwireError(cause, "INTERNAL");
      this.options.refused?.(error, withoutCredential(peer));
      throw error;
    } finally {
      this.#knocking.delete(away);
    }
  }

  #makeRoom(): void {
    const [oldest] = this.#knocking;
    this.#knocking.delete(oldest!);
    oldest!.reject(busy());
  }

  #timer(away: Deferred<never>): NodeJS.Timeout | undefined {
    const { helloTimeoutMs } = this.options;
    if (helloTimeoutMs === 0) return undefined;
    const message = `the peer has not said HELLO within ${helloTimeoutMs} ms`;
    return setTimeout(
      () => away.reject(new TensorwireError("IDLE_TIMEOUT", message)),
      helloTimeoutMs,
    ).unref();
  }

  /** @throws TensorwireError `UNAUTHORIZED`. What `authorize` threw is its cause, and the peer does not hear of it. */
  async #ask(credential: string | undefined, peer: ChannelPeer): Promise<Principal | undefined> {
    const { authorize } = this.options;
    if (!authorize) return undefined;
    let answer: Answer<Principal | undefined>;
    try {
      answer = await authorize(credential, peer);
    } catch (cause) {
      throw new TensorwireError("UNAUTHORIZED", "the credential could not be checked", { cause });
    }
    if (typeof answer === "object" && answer !== null && typeof answer.name === "string") return answer;
    const why = credential === undefined ? "a credential is needed here" : "the credential is refused";
    throw new TensorwireError("UNAUTHORIZED", why);
  }
}

function withoutCredential({ credential: _, ...peer }: ChannelPeer): PublicPeer {
  return peer;
}

const left = (): TensorwireError =>
  new TensorwireError("CHANNEL_CLOSED", "the peer went away before it was let in");

const busy = (): TensorwireError =>
  new TensorwireError("SERVER_BUSY", "too many connections at the moment: try again later");
