import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { JobProcess } from "../federated-bench/job-process.js";
import { type BenchModel, makeModel } from "../federated-bench/rows.js";
import { MemorySampler } from "../memory/sampler.js";
import { formatSize } from "../model/byte-size.js";
import type { ScalingPoint, ScalingRun, ScalingSeries } from "./scaling-data.js";
import type { BenchmarkContext } from "./section.js";

const MiB = 2 ** 20;
const BUDGET_BYTES = 128 * MiB;
const ROUNDS = 3;
const CODEC = "normfloat4";

/** What a server does for many: its own time, processor and memory. */
export async function* serverSeries(context: BenchmarkContext): AsyncGenerator<ScalingSeries> {
  const { quick, scratch } = context;
  const bytes = quick ? 8 * MiB : 256 * MiB;
  const model = await makeModel(scratch, bytes);
  yield await series(
    context,
    {
      ...{ id: "receivers", title: "Receivers at once" },
      setting: `a server that has published a model of ${formatSize(bytes)} as ${CODEC}; the time until the last has all of it, encoded`,
      axis: { title: "receivers", of: "count", scale: "linear" },
    },
    quick ? [2] : [1, 2, 4, 8, 16, 32],
    (receivers) => serve(scratch, model, receivers),
  );
  yield await series(
    context,
    {
      ...{ id: "clients", title: "Clients aggregated" },
      setting: `a server that has collected a model of ${formatSize(bytes)} as ${CODEC} from each client, within a budget of ${formatSize(BUDGET_BYTES)}; the time that the mean takes, encoded again`,
      axis: { title: "clients", of: "count", scale: "linear" },
    },
    quick ? [2] : [1, 2, 4, 8, 16],
    (clients) => mean(scratch, model, clients),
  );
}

async function series(
  { quick, log, signal }: BenchmarkContext,
  about: Omit<ScalingSeries, "points">,
  counts: readonly number[],
  run: (count: number) => Promise<ScalingRun>,
): Promise<ScalingSeries> {
  log(`${about.title}: ${counts.length} places`);
  const points = counts.map(
    (x) => ({ x, runs: [] as ScalingRun[] }) as { x: number; runs: ScalingRun[]; failed?: string },
  );
  for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
    for (const point of round % 2 ? points.toReversed() : points) {
      if (point.failed !== undefined || signal.aborted) continue;
      try {
        point.runs.push(await run(point.x));
      } catch (error) {
        point.failed = (error as Error).message;
        log(`${about.title}, ${point.x}: failed: ${point.failed}`);
      }
    }
  }
  return { ...about, points: points satisfies ScalingPoint[] };
}

/** A server and its crowd, in processes of their own. */
async function between(
  job: (server: JobProcess, crowd: JobProcess, timed: Timed) => Promise<void>,
): Promise<ScalingRun> {
  const [server, crowd] = await Promise.all([JobProcess.start(), JobProcess.start()]);
  const sampler = new MemorySampler(server.pid);
  let seconds = 0;
  let cpuSeconds = 0;
  try {
    await job(server, crowd, async (work) => {
      const [began, cpu] = [performance.now(), await server.cpuSeconds()];
      await work();
      seconds = (performance.now() - began) / 1000;
      cpuSeconds = (await server.cpuSeconds()) - cpu;
    });
    const { peakBytes } = sampler.stop();
    return { seconds, ends: [{ name: "server", peakBytes, cpuSeconds }] };
  } finally {
    sampler.cancel();
    await Promise.all([server.close(), crowd.close()]);
  }
}

type Timed = (work: () => Promise<unknown>) => Promise<void>;

async function serve(scratch: string, model: BenchModel, receivers: number): Promise<ScalingRun> {
  const spool = join(scratch, "spool");
  await mkdir(spool);
  try {
    return await between(async (server, crowd, timed) => {
      const { url } = await server.run({ kind: "publish", source: model.path, spool });
      await timed(() => crowd.run({ kind: "fetch", url: url!, receivers }));
    });
  } finally {
    await rm(spool, { recursive: true, force: true });
  }
}

async function mean(scratch: string, model: BenchModel, clients: number): Promise<ScalingRun> {
  const folder = join(scratch, "uploads");
  const to = join(scratch, "mean.twire");
  await mkdir(folder);
  try {
    return await between(async (server, crowd, timed) => {
      const { url } = await server.run({ kind: "collect", folder, clients, budgetBytes: BUDGET_BYTES });
      await crowd.run({ kind: "upload", source: model.artifact, url: url!, clients });
      await server.run({ kind: "arrived" });
      await timed(() => server.run({ kind: "conclude", to }));
    });
  } finally {
    await Promise.all([rm(folder, { recursive: true, force: true }), rm(to, { force: true })]);
  }
}
