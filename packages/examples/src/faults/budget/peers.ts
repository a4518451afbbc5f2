import { setTimeout as sleep } from "node:timers/promises";
import {
  type ModelSink,
  type ModelSource,
  receiveModel,
  type SinkModel,
  streamModel,
} from "@tensorwire/stream";
import { fillNoise } from "../../model/noise.js";
import { CODECS, type Order, type PeersTask, say } from "./job.js";

const task = JSON.parse(process.argv[2]!) as PeersTask;
const SLOW_MS = 20;

let release: () => void;
const released = new Promise<void>((resolve) => {
  release = resolve;
});
const weights = new Float32Array(task.role === "receive" ? task.modelBytes / 4 : 0);
fillNoise(weights, 0);
const bytes = new Uint8Array(weights.buffer);

/** Goes on slowly up to the middle, and then not before it is told to. */
class Pace {
  #stalled = false;

  constructor(private readonly slow: boolean) {}

  async next(offset: number): Promise<void> {
    if (!this.slow) return;
    if (offset < task.modelBytes / 2) return void (await sleep(SLOW_MS));
    if (!this.#stalled) say({ kind: "stalled" });
    this.#stalled = true;
    await released;
  }
}

function source(pace: Pace): ModelSource {
  const tensors = [{ name: "weights", dtype: "F32", shape: [weights.length / 256, 256] }] as const;
  return {
    name: "a peer's model",
    open: async () => ({ kind: "model", tensors, metadata: new Map() }),
    async read({ offset, bytes: length }) {
      await pace.next(offset);
      return { bytes: bytes.subarray(offset, offset + length), release() {} };
    },
    async close() {},
  };
}

function sink(pace: Pace): ModelSink {
  return {
    name: "a peer's sink",
    parallel: false,
    async open(_model: SinkModel) {},
    write: ({ offset }) => pace.next(offset),
    async finish() {},
    async abort() {},
  };
}

async function transfer(index: number, slow: boolean): Promise<void> {
  const { url, windowBytes, chunkBytes, role } = task;
  const pace = new Pace(slow);
  try {
    if (role === "send") {
      await receiveModel(url, { windowBytes, to: sink(pace) }).done;
    } else {
      const codec = CODECS[index % CODECS.length]!;
      await streamModel(source(pace), url, { windowBytes, chunkBytes, codec });
    }
    say({ kind: "done", slow });
  } catch (error) {
    say({ kind: "done", slow, error: String(error) });
  }
}

let begun = 0;
process.on("message", (order: Order) => {
  if (order.kind === "release") return release();
  for (let i = 0; i < order.transfers; i++) void transfer(begun++, i < order.slow);
});
process.on("disconnect", () => process.exit());
say({ kind: "ready" });
