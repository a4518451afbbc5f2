import { open } from "node:fs/promises";
import { join } from "node:path";
import { BufferPool, type Channel, ChunkPlan } from "@tensorwire/core";
import {
  aggregate,
  type Collection,
  createModelServer,
  dialWebSocket,
  type EncodedSink,
  listen,
  MemoryBudget,
  type ModelServer,
  rawFileSource,
  receiveModel,
  streamModel,
} from "@tensorwire/stream";
import type { FederatedAnswer, FederatedJob, FederatedResult } from "./job.js";

const NAME = "model";
const ROUND = "round-1";
const CODEC = "normfloat4";
const PIECE_BYTES = 2 ** 20;

/** More than one address has in ordinary servers: all receivers of the bench come from here. */
const CROWD = { maxPeerTransfers: 256 };

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

let round: Collection | undefined;
let budget: MemoryBudget | undefined;
let server: ModelServer | undefined;

async function perform(job: FederatedJob): Promise<Omit<FederatedResult, "cpuSeconds">> {
  switch (job.kind) {
    case "aggregate":
      return readMean(job.paths, job.accumulator);
    case "collect": {
      budget = new MemoryBudget(job.budgetBytes);
      server = await createModelServer({ uploads: job.folder, budget, limits: CROWD });
      round = await server.collect(ROUND, { expect: job.clients });
      return { url: server.urlOf(ROUND) };
    }
    case "arrived":
      await round!.done;
      return {};
    case "conclude": {
      const models = await round!.done;
      const clients = Object.fromEntries(models.map((model) => [model.client, model.source()]));
      await streamModel(aggregate(clients), job.to, { codec: CODEC, budget });
      return {};
    }
    case "upload": {
      const clients = Array.from({ length: job.clients }, (_, i) => `client-${i + 10}`);
      await Promise.all(clients.map((client) => streamModel(job.source, `${job.url}/${client}`)));
      return {};
    }
    case "publish": {
      server = await createModelServer({ limits: CROWD });
      const { spool, source } = job;
      const { version } = await server.publish(NAME, source, { spool, codec: CODEC, encode: "now" });
      return { url: server.urlOf(NAME), artifact: join(spool, NAME, `${version}-${CODEC}.twire`) };
    }
    case "share": {
      server = await createModelServer({ limits: CROWD });
      server.publish(NAME, () => rawFileSource(job.path));
      return { url: server.urlOf(NAME) };
    }
    case "offer": {
      const listener = await listen();
      void listener.each((channel) => void pour(job.path, channel), new AbortController().signal);
      return { url: listener.url };
    }
    case "fetch": {
      const fetched = Array.from(
        { length: job.receivers },
        () => receiveModel(job.url, { to: nowhere() }).done,
      );
      await Promise.all(fetched);
      return {};
    }
    case "drain":
      await Promise.all(
        Array.from({ length: job.receivers }, async () => drained(await dialWebSocket(job.url))),
      );
      return {};
    case "cpu":
      return {};
  }
}

/** As a reader of a model does that wants its elements and nothing else. */
async function readMean(paths: readonly string[], accumulator: "f32" | "f64"): Promise<FederatedResult> {
  const [began, cpu] = [performance.now(), cpuSeconds()];
  const clients = Object.fromEntries(paths.map((path, i) => [`client-${i + 10}`, path]));
  const mean = aggregate(clients, { accumulator });
  const { tensors } = await mean.open();
  const openCpuSeconds = cpuSeconds() - cpu;
  const plan = new ChunkPlan(tensors, mean.chunkBytes!);
  const pool = new BufferPool(plan.maxChunkBytes);
  mean.want?.([{ first: 0, count: plan.chunks }]);
  for (const chunk of plan.walk()) (await mean.read(chunk, pool)).release();
  await mean.verify?.();
  await mean.close();
  const seconds = (performance.now() - began) / 1000;
  return { seconds, openCpuSeconds, cpuSeconds: cpuSeconds() - cpu };
}

/** Takes everything, and keeps nothing. */
function nowhere(): EncodedSink {
  return {
    name: "nowhere",
    open: async () => {},
    writeEncoded: () => undefined,
    finish: async () => {},
    abort: async () => {},
  };
}

/** The bytes of a file, piece by piece, as fast as the channel takes them. */
async function pour(path: string, channel: Channel): Promise<void> {
  channel.open({ bytes: () => {}, end: () => {} });
  const file = await open(path);
  try {
    const piece = new Uint8Array(PIECE_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(piece);
      if (bytesRead === 0) break;
      await channel.send([piece.subarray(0, bytesRead)]);
    }
  } finally {
    await file.close();
  }
  await channel.close();
}

function drained(channel: Channel): Promise<void> {
  return new Promise((resolve) => {
    channel.open({ bytes: () => {}, end: () => void channel.close().then(resolve) });
  });
}

const answer = (message: FederatedAnswer | { readonly ready: true }): void => void process.send!(message);

process.on("message", (job: FederatedJob) => {
  perform(job).then(
    (result) => answer({ result: { cpuSeconds: cpuSeconds(), ...result } }),
    (error: Error) => answer({ error: error.stack ?? error.message }),
  );
});
process.on("disconnect", () => process.exit());
answer({ ready: true });
