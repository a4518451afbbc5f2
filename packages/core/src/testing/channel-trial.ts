import { afterEach, expect, it } from "vitest";
import type { Channel } from "../channel.js";
import { KiB, pause, Recorder, within } from "./channel-recorder.js";

/** Two ends of one new channel, neither of them opened. */
export interface ChannelPair {
  /** One end. */
  readonly left: Channel;
  /** The other. */
  readonly right: Channel;
  /** Keeps the right end's process from taking bytes off the wire, until the function that it returns is called. */
  stall?(): () => void;
  /** Ends the right end as the death of its process would. */
  vanish?(): void;
  /** Frees what is not the channels': servers, files. */
  dispose?(): void | Promise<void>;
}

/** What the suite makes allowance for. */
export interface ChannelSuiteOptions {
  /** False for a channel within one process: its pairs can neither be stalled nor vanish. */
  readonly wire?: boolean;
  /** Bytes that a stalled peer's side of the wire may take before `send` waits: the system's buffers. Default 16 MiB. */
  readonly wireBytes?: number;
  /** The largest parts to send. Default 3 MiB. */
  readonly largeBytes?: number;
}

/** A pair, and who hears of either end. */
export interface TriedPair {
  readonly pair: ChannelPair;
  readonly left: Channel;
  readonly right: Channel;
  readonly toLeft: Recorder;
  readonly toRight: Recorder;
}

/** What must not wait for a peer, but for the moment that its last words may take. */
export const AT_ONCE_MS = 5_000;

/** Makes the pairs that a suite's tests are about, and clears them away behind each test. */
export class ChannelTrial {
  readonly wireBytes: number;
  readonly largeBytes: number;
  readonly #wire: boolean;
  readonly #made: TriedPair[] = [];

  constructor(
    private readonly makePair: () => ChannelPair | Promise<ChannelPair>,
    { wire = true, wireBytes = 16 * KiB * KiB, largeBytes = 3 * KiB * KiB + 7 }: ChannelSuiteOptions,
  ) {
    this.#wire = wire;
    this.wireBytes = wireBytes;
    this.largeBytes = largeBytes;
    // Whatever a test was about: both ends can be dropped, and nothing is called after the end.
    afterEach(async () => {
      for (const { pair, toLeft, toRight } of this.#made.splice(0)) {
        const dropped = [pair.left, pair.right].map((channel) =>
          channel.close(new Error("the test is over")),
        );
        await within(Promise.all(dropped), "closing with an error", AT_ONCE_MS);
        await pause(5);
        await pair.dispose?.();
        for (const receiver of [toLeft, toRight]) expect(receiver.faults).toEqual([]);
      }
    });
  }

  /** Registers a test that needs a wire, where there is one: a test that is skipped everywhere tells nobody anything. */
  onWire(title: string, test: () => Promise<void>): void {
    if (this.#wire) it(title, test);
  }

  /** A pair of which neither end is opened. */
  async make(toRight = new Recorder()): Promise<TriedPair> {
    const pair = await this.makePair();
    const made = { pair, left: pair.left, right: pair.right, toLeft: new Recorder(), toRight };
    this.#made.push(made);
    return made;
  }

  async open(): Promise<TriedPair> {
    const made = await this.make();
    made.left.open(made.toLeft);
    made.right.open(made.toRight);
    return made;
  }
}
