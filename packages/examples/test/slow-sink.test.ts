import { setTimeout as sleep } from "node:timers/promises";
import {
  type Listener,
  listen,
  type ModelSink,
  type ModelSource,
  memoryChannelPair,
  receiveModel,
  type SinkModel,
  streamModel,
} from "@tensorwire/stream";
import { afterEach, expect, test } from "vitest";

const MODEL_BYTES = 16_000_000;
const WINDOW_BYTES = 2 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
const BYTES_PER_SECOND = 10e6;

/** Source bytes that have left the source, and that the sink has finished with. */
class Flight {
  read = 0;
  finished = 0;
  most = 0;

  depart(bytes: number): void {
    this.read += bytes;
    this.most = Math.max(this.most, this.read - this.finished);
  }
}

type Chunk = Parameters<ModelSource["read"]>[0];

function fastSource(flight: Flight): ModelSource {
  const tensors = [{ name: "weights", dtype: "F32", shape: [MODEL_BYTES / 4] }] as const;
  return {
    name: "fast",
    open: async () => ({ kind: "model", tensors, metadata: new Map() }),
    read({ bytes }: Chunk, pool) {
      flight.depart(bytes);
      const loan = pool.lend(bytes);
      loan.bytes.fill(1);
      return loan;
    },
    async close() {},
  };
}

/** Takes 10 MB/s, one chunk after the other, as a slow disk does. */
class SlowSink implements ModelSink {
  readonly name = "slow";
  #started = 0;

  constructor(
    private readonly flight: Flight,
    readonly parallel: boolean,
  ) {}

  async open(_model: SinkModel): Promise<void> {
    this.#started = performance.now();
  }

  async write({ bytes }: Chunk): Promise<void> {
    const due = this.#started + ((this.flight.finished + bytes) / BYTES_PER_SECOND) * 1000;
    await sleep(Math.max(1, due - performance.now()));
    this.flight.finished += bytes;
  }

  async finish(): Promise<void> {}
  async abort(): Promise<void> {}
}

let listener: Listener | undefined;
afterEach(async () => {
  await listener?.close();
  listener = undefined;
});

test.each([
  { channel: "a WebSocket", parallel: false, codec: "none" },
  { channel: "a WebSocket", parallel: false, codec: "normfloat4" },
  { channel: "a WebSocket", parallel: true, codec: "normfloat4" },
  { channel: "memory", parallel: false, codec: "none" },
])(
  "a sink that takes 10 MB/s slows the source, over $channel with $codec (parallel: $parallel)",
  async (given) => {
    const flight = new Flight();
    const [a, b] = memoryChannelPair();
    if (given.channel !== "memory") listener = await listen();
    const started = performance.now();
    const options = { windowBytes: WINDOW_BYTES };
    const { done } = receiveModel(listener ?? b, { to: new SlowSink(flight, given.parallel), ...options });
    const sent: number[] = [];
    const summary = await streamModel(fastSource(flight), listener?.url ?? a, {
      codec: given.codec,
      chunkBytes: CHUNK_BYTES,
      ...options,
      onProgress: ({ sourceBytes }) => sent.push(sourceBytes - flight.finished),
    });
    await done;
    listener = undefined;
    const seconds = (performance.now() - started) / 1000;
    expect(summary.sourceBytes).toBe(MODEL_BYTES);
    expect(seconds).toBeGreaterThan((MODEL_BYTES / BYTES_PER_SECOND) * 0.95);
    // Nothing is read that may not be sent: the window bounds what is in flight and what was read ahead together.
    expect(flight.most).toBeLessThanOrEqual(WINDOW_BYTES);
    // And it is used, or the sink would wait for a distant source.
    expect(flight.most).toBeGreaterThan(WINDOW_BYTES / 2);
    expect(Math.max(...sent)).toBeLessThanOrEqual(WINDOW_BYTES);
  },
);
