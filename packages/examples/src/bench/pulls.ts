import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createModelServer,
  type ModelServer,
  type ModelSink,
  receiveModel,
  remoteSource,
  streamModel,
} from "@tensorwire/stream";
import { median } from "../memory/bars.js";
import { writeNoiseModel } from "../model/noise-model.js";

const MiB = 2 ** 20;
const MODEL = { bytes: 96 * MiB, largestBytes: 16 * MiB };
/** What a way gives each connection: far below what the ends could do. */
const BYTES_PER_SECOND = 8 * MiB;
const CONNECTIONS = [1, 2, 4, 8];
const RUNS = 3;
/** The bar: four connections, this many times as fast as one. */
const TIMES = 3.2;

/** Takes everything and keeps nothing: what is measured is the way. */
const nowhere = (): ModelSink => ({
  name: "nowhere",
  parallel: true,
  async open() {},
  write: () => undefined,
  async finish() {},
  async abort() {},
});

/** Seconds of one pull. */
async function pull(url: string, concurrency: number): Promise<number> {
  const { seconds } = await receiveModel(url, { to: nowhere(), concurrency }).done;
  return seconds;
}

/** Seconds in which a relay brings the model from one server to another, pulled over four connections. */
async function relay(from: string, to: string): Promise<number> {
  const { seconds } = await streamModel(remoteSource(from, { concurrency: 4 }), to);
  return seconds;
}

async function main(scratch: string): Promise<boolean> {
  const model = join(scratch, "model.safetensors");
  await writeNoiseModel(model, MODEL);
  const server: ModelServer = await createModelServer({ maxBytesPerSecond: BYTES_PER_SECOND });
  const edge = await createModelServer({ uploads: scratch, receive: { overwrite: true } });
  server.publish("model", model, { chunkBytes: MiB });
  const times = new Map<number, number[]>(CONNECTIONS.map((count) => [count, []]));
  const relayed: number[] = [];
  try {
    for (let run = 0; run < RUNS; run++) {
      // In alternating order: what one leaves behind, the other meets, and the other way round.
      for (const count of run % 2 ? CONNECTIONS.toReversed() : CONNECTIONS) {
        times.get(count)!.push(await pull(server.urlOf("model"), count));
      }
      relayed.push(await relay(server.urlOf("model"), edge.urlOf("relayed.twire")));
    }
  } finally {
    await Promise.all([server.close(), edge.close()]);
  }
  const one = median(times.get(1)!);
  console.log(`a way of ${BYTES_PER_SECOND / MiB} MiB a second for each connection; medians of ${RUNS} runs`);
  for (const [count, seconds] of times) {
    const [took, ratio] = [median(seconds), one / median(seconds)];
    console.log(`${count} connections: ${took.toFixed(2)} s, ${ratio.toFixed(2)} times as fast as one`);
  }
  console.log(`relayed, over 4: ${median(relayed).toFixed(2)} s`);
  const reached = one / median(times.get(4)!);
  const pass = reached >= TIMES;
  console.log(`${pass ? "pass" : "FAIL"}: 4 connections are at least ${TIMES} times as fast as one`);
  return pass;
}

const scratch = await mkdtemp(join(tmpdir(), "tensorwire-pulls-"));
try {
  if (!(await main(scratch))) process.exitCode = 1;
} finally {
  await rm(scratch, { recursive: true });
}
