import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { streamModel } from "@tensorwire/stream";
import { median } from "../memory/bars.js";
import { MemorySampler } from "../memory/sampler.js";
import { formatMiB, formatSize } from "../model/byte-size.js";
import { writeNoiseModel } from "../model/noise-model.js";
import { JobProcess } from "./job-process.js";

/** How large it all is. */
export interface BenchSize {
  /** The model that is collected; the small one is a quarter of it, and is what is aggregated and served. */
  readonly modelBytes: number;
  readonly clients: number;
  readonly fewClients: number;
  readonly budgetBytes: number;
  readonly aggregated: number;
  readonly receivers: number;
  readonly runs: number;
  /** Of the federations that train, as many as there are seeds. */
  readonly rounds: number;
  readonly seeds: readonly number[];
}

/** Something that was measured, and what it must be; nothing where it is told and not judged. */
export interface Row {
  readonly what: string;
  readonly found: string;
  readonly bar?: { readonly text: string; readonly pass: boolean };
}

export const FULL: BenchSize = {
  modelBytes: 2 ** 30,
  clients: 16,
  fewClients: 2,
  budgetBytes: 128 * 2 ** 20,
  aggregated: 8,
  receivers: 32,
  runs: 3,
  rounds: 8,
  seeds: [1, 2, 3],
};
/** Enough to see that everything runs: nothing is judged by it. */
export const QUICK: BenchSize = {
  ...FULL,
  modelBytes: 2 ** 25,
  clients: 4,
  aggregated: 3,
  receivers: 4,
  runs: 1,
  rounds: 1,
  seeds: [1],
};

const MiB = 2 ** 20;
const CODEC = "normfloat4";

/** A model of noise in a folder, as a file and encoded. */
export interface BenchModel {
  readonly bytes: number;
  readonly path: string;
  readonly artifact: string;
}

export async function makeModel(folder: string, bytes: number): Promise<BenchModel> {
  const path = join(folder, `${formatSize(bytes).replace(" ", "")}.safetensors`);
  await writeNoiseModel(path, { bytes, largestBytes: bytes / 4 });
  const artifact = path.replace("safetensors", "twire");
  await streamModel(path, artifact, { codec: CODEC });
  return { bytes, path, artifact };
}

async function withProcesses<T>(count: number, use: (processes: JobProcess[]) => Promise<T>): Promise<T> {
  const processes = await Promise.all(Array.from({ length: count }, () => JobProcess.start()));
  try {
    return await use(processes);
  } finally {
    await Promise.all(processes.map((each) => each.close()));
  }
}

const GBPS = { f32: 3.0, f64: 1.5 } as const;

/** Means of artifacts in the page cache: GB/s of all clients' float32, for each second of processor time. */
export function aggregateRows(model: BenchModel, size: BenchSize): Promise<Row[]> {
  return withProcesses(1, async ([reader]) => {
    const paths = new Array<string>(size.aggregated).fill(model.artifact);
    const rows: Row[] = [];
    for (const accumulator of ["f32", "f64"] as const) {
      const speeds: number[] = [];
      const alone: number[] = [];
      // The first warms up.
      for (let run = -1; run < size.runs; run++) {
        const { cpuSeconds, openCpuSeconds } = await reader!.run({ kind: "aggregate", paths, accumulator });
        if (run < 0) continue;
        const gigabytes = (model.bytes * size.aggregated) / 1e9;
        speeds.push(gigabytes / cpuSeconds);
        alone.push(gigabytes / (cpuSeconds - openCpuSeconds!));
      }
      const [found, least] = [median(speeds), GBPS[accumulator]];
      rows.push({
        what: `mean of ${size.aggregated} clients' ${CODEC}, sums in ${accumulator}, a core`,
        found: `${found.toFixed(2)} GB/s (${median(alone).toFixed(2)} once looked through)`,
        bar: { text: `at least ${least.toFixed(1)} GB/s`, pass: found >= least },
      });
    }
    return rows;
  });
}

interface Collected {
  readonly peakBytes: number;
  readonly artifacts: number;
  readonly others: readonly string[];
}

/** A round and its mean in a process of its own. */
async function collect(
  folder: string,
  model: BenchModel,
  clients: number,
  size: BenchSize,
): Promise<Collected> {
  const uploads = join(folder, "uploads");
  await mkdir(uploads);
  try {
    return await withProcesses(2, async ([server, crowd]) => {
      const sampler = new MemorySampler(server!.pid);
      try {
        const { budgetBytes } = size;
        const { url } = await server!.run({ kind: "collect", folder: uploads, clients, budgetBytes });
        await crowd!.run({ kind: "upload", source: model.artifact, url: url!, clients });
        await server!.run({ kind: "arrived" });
        const entries = await readdir(uploads, { recursive: true, withFileTypes: true });
        const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
        await server!.run({ kind: "conclude", to: join(folder, "mean.twire") });
        const others = files.filter((name) => !name.endsWith(".twire"));
        return { peakBytes: sampler.stop().peakBytes, artifacts: files.length - others.length, others };
      } finally {
        sampler.cancel();
      }
    });
  } finally {
    await Promise.all([rm(uploads, { recursive: true }), rm(join(folder, "mean.twire"), { force: true })]);
  }
}

const PEAK_BYTES = 300 * MiB;
const DRIFT_BYTES = 32 * MiB;

/** Some hundred bytes: which of the files arrived, so that a server that starts again takes those and no others. */
const ROUND_RECORD = ".round.json";

/** What the server of a round weighs at most, whatever the model and however many the clients. */
export async function memoryRows(
  folder: string,
  { large, small }: { readonly large: BenchModel; readonly small: BenchModel },
  size: BenchSize,
): Promise<Row[]> {
  const runs = { many: [] as Collected[], few: [] as Collected[], small: [] as Collected[] };
  for (let run = 0; run < size.runs; run++) {
    runs.many.push(await collect(folder, large, size.clients, size));
    runs.few.push(await collect(folder, large, size.fewClients, size));
    runs.small.push(await collect(folder, small, size.clients, size));
  }
  const peak = (which: keyof typeof runs): number => median(runs[which].map(({ peakBytes }) => peakBytes));
  const many = peak("many");
  const drift = (what: string, other: number): Row => ({
    what,
    found: `${((many - other) / MiB).toFixed(1)} MiB more than ${formatMiB(other)}`,
    bar: { text: `within ${formatMiB(DRIFT_BYTES)}`, pass: Math.abs(many - other) <= DRIFT_BYTES },
  });
  const { artifacts, others } = runs.many[0]!;
  return [
    {
      what: `collecting and aggregating ${formatSize(large.bytes)} of ${size.clients} clients, peak RSS`,
      found: formatMiB(many),
      bar: { text: `at most ${formatMiB(PEAK_BYTES)}`, pass: many <= PEAK_BYTES },
    },
    drift(`beside ${size.fewClients} clients`, peak("few")),
    drift(`beside a model of ${formatSize(small.bytes)}`, peak("small")),
    {
      what: "on the disk when all have arrived",
      found: `${artifacts} artifacts, ${others.join(", ") || "nothing else"}`,
      bar: {
        text: `${size.clients} artifacts, and nothing but the list of them`,
        pass: artifacts === size.clients && others.every((name) => name === ROUND_RECORD),
      },
    },
  ];
}

const TIMES = 1.3;

/**
 * What serving costs the server's processor, beside sending a file of that size through the same kind of channel: as a
 * transfer of ours, with all that makes it one, and as bytes alone.
 */
export async function servingRows(folder: string, model: BenchModel, size: BenchSize): Promise<Row[]> {
  const spool = join(folder, "spool");
  await mkdir(spool);
  const { receivers } = size;
  return withProcesses(4, async ([server, sharer, pourer, crowd]) => {
    const idle = await server!.cpuSeconds();
    const { url, cpuSeconds, artifact } = await server!.run({ kind: "publish", source: model.path, spool });
    const path = artifact!;
    const ways = [
      { from: server!, kind: "fetch", url: url!, times: [] as number[] },
      {
        from: sharer!,
        kind: "fetch",
        url: (await sharer!.run({ kind: "share", path })).url!,
        times: [] as number[],
      },
      {
        from: pourer!,
        kind: "drain",
        url: (await pourer!.run({ kind: "offer", path })).url!,
        times: [] as number[],
      },
    ] as const;
    // The first of each warms up; then in alternating order.
    for (let run = -1; run < size.runs; run++) {
      for (const { from, kind, url, times } of run % 2 ? ways.toReversed() : ways) {
        const before = await from.cpuSeconds();
        await crowd!.run({ kind, url, receivers });
        if (run >= 0) times.push(((await from.cpuSeconds()) - before) / receivers);
      }
    }
    const [served, shared, poured] = ways.map(({ times }) => median(times)) as [number, number, number];
    const { size: bytes } = await stat(path);
    const files = await readdir(join(spool, "model"));
    const artifacts = files.filter((name) => name.endsWith(".twire"));
    const beside = (other: number): string =>
      `${(served / other).toFixed(2)}x its ${(1000 * other).toFixed(1)} CPU ms`;
    return [
      { what: `encoding ${formatSize(model.bytes)} once`, found: `${(cpuSeconds - idle).toFixed(2)} CPU s` },
      {
        what: `serving its ${formatMiB(bytes)} to ${receivers} receivers at once, each, beside a plain file sent so`,
        found: `${(1000 * served).toFixed(1)} CPU ms, ${beside(shared)}`,
        bar: { text: `at most ${TIMES}x`, pass: served <= TIMES * shared },
      },
      { what: "the same beside its bytes alone, unverified and without credit", found: beside(poured) },
      {
        what: "made for all of them",
        found: `${artifacts.length} artifact`,
        bar: { text: "1", pass: artifacts.length === 1 },
      },
    ];
  });
}
