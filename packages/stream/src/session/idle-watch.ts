import { type Channel, encodeFrame, type FrameParser, FrameType, TensorwireError } from "@tensorwire/core";
import type { FrameWriter } from "./frame-writer.js";
import { Pulse, period } from "./pulse.js";
import { Standstill } from "./standstill.js";
import { MAX_TIMEOUT_MS, MIN_TIMEOUT_MS } from "./timeouts.js";

/** Whose line is watched. */
export interface WatchedLine {
  /** Somebody waits for the peer. */
  readonly awaited: boolean;
  /** What may be the matter with a peer that has never said anything, where something else may be than that it is gone. */
  readonly silence: string | undefined;
  /** The peer is gone. */
  refuse(error: TensorwireError): Promise<void>;
}

/**
 * Tells a peer that is gone from one that is slow: from a peer that lives a whole frame comes now and then, if only a
 * heartbeat. Sends this side's own, and has one timer for both.
 */
export class IdleWatch {
  readonly #silence = new Standstill();
  readonly #quiet = new Standstill();
  readonly #pulse = new Pulse((elapsed) => this.#look(elapsed));
  #period = 0;
  /** Milliseconds after which the peer gives this side up. */
  #peerTimeoutMs = 0;

  /** @param idleTimeoutMs 0: a silent peer is never gone. */
  constructor(
    private readonly parser: FrameParser,
    private readonly writer: FrameWriter,
    private readonly line: WatchedLine,
    readonly idleTimeoutMs: number,
  ) {
    this.#beat();
  }

  /** What the peer has said of its own patience. A stranger's number: it does not make this side busy. */
  heed(peerTimeoutMs = 0): void {
    if (peerTimeoutMs === 0) return;
    this.#peerTimeoutMs = Math.min(Math.max(peerTimeoutMs, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS);
    this.#beat();
  }

  stop(): void {
    this.#pulse.stop();
  }

  /** An orderly close, for which a peer that is gone is not waited either. */
  async closing(channel: Channel): Promise<void> {
    if (this.idleTimeoutMs === 0) return channel.close();
    const timer = setTimeout(() => void channel.close(this.#gone()), this.idleTimeoutMs).unref();
    await channel.close();
    clearTimeout(timer);
  }

  #beat(): void {
    // Two looks within the third of its patience after which the peer is to hear something.
    const periods = [period(this.idleTimeoutMs), Math.floor(this.#peerTimeoutMs / 6)].filter(
      (each) => each > 0,
    );
    if (periods.length === 0) return;
    this.#period = Math.min(...periods);
    this.#pulse.beat(this.#period);
  }

  #look(elapsed: number): void {
    this.#beatHeart(elapsed);
    const silence = this.#silence.look(this.parser.frames, elapsed);
    if (!this.line.awaited) return this.#silence.forget();
    if (this.idleTimeoutMs > 0 && silence >= this.idleTimeoutMs) void this.line.refuse(this.#gone());
  }

  #beatHeart(elapsed: number): void {
    const { written, writing } = this.writer;
    const quiet = this.#quiet.look(written, elapsed);
    // What is under way is heard before any heartbeat could be; a peer that reads nothing must not make a queue here.
    if (writing > 0) return this.#quiet.forget();
    if (this.#peerTimeoutMs > 0 && quiet + this.#period >= this.#peerTimeoutMs / 3) this.#ping();
  }

  #ping(): void {
    // That it fails shows where it matters: in what the channel says itself.
    this.writer.write([encodeFrame(FrameType.PING, 0, 0)]).catch(() => {});
  }

  #gone(): TensorwireError {
    const { silence = "try again, or raise idleTimeoutMs where the line is that slow" } = this.line;
    return new TensorwireError(
      "IDLE_TIMEOUT",
      `no whole frame came from the peer for ${this.idleTimeoutMs} ms, not even a heartbeat: it is taken for gone (${this.parser.position}); ${silence}`,
    );
  }
}
