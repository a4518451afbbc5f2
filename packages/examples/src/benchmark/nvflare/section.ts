import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { TensorInfo } from "@tensorwire/core";
import { formatMiB } from "../../model/byte-size.js";
import { writeNoise } from "../../model/noise-model.js";
import { f32Bytes, gpt2Shapes, largestBytes } from "../models.js";
import { ours } from "../ours.js";
import { race } from "../race.js";
import { touch } from "../room.js";
import type { BenchmarkContext, Section } from "../section.js";
import { nvflare } from "./contender.js";
import type { NvflareData, NvflareRow, Taken } from "./data.js";
import { type NvflareEntry, LIMIT_SECONDS, runEntries } from "./entries.js";
import { NoNvflare, nvflarePython, RELEASES } from "./environment.js";
import { renderNvflare } from "./page.js";
import type { NvflareWay } from "./published.js";
import { nvflareVerdicts } from "./verdicts.js";

const ROUNDS = 3;
const WAYS: readonly NvflareWay[] = ["regular", "container", "file"];
const CODECS = ["normfloat4", "none"] as const;
const TAKEN: readonly Taken[] = ["chunks", "tensors", "all"];
/** A dict for a glance, and to see that everything arrives as it was sent. */
const smallShapes = (): TensorInfo[] => gpt2Shapes(64, 4096);

export const nvflareDict: Section<NvflareData> = {
  id: "nvflare",
  title: "Beside NVFlare",
  measure: async (context) => ({ dict: await measureDict(context) }),
  render: renderNvflare,
  verdicts: nvflareVerdicts,
};

async function measureDict(context: BenchmarkContext): Promise<NvflareData["dict"]> {
  const { quick, scratch, log } = context;
  const pythons = await nvflares(context);
  const tensors = quick ? smallShapes() : gpt2Shapes();
  const bytes = f32Bytes(tensors);
  const model = join(scratch, "dict.safetensors");
  await touch(scratch, 2 * bytes);
  await writeNoise(model, tensors);
  const entries = [...theirEntries(pythons, model, context), ...ourEntries(tensors, model, scratch)];
  log(`${formatMiB(bytes)} in ${tensors.length} tensors: ${entries.length} contenders`);
  const rows = await runEntries<NvflareRow>(context, ROUNDS, entries);
  await rm(model);
  const rounds = quick ? 1 : ROUNDS;
  return { bytes, tensors: tensors.length, largestBytes: largestBytes(tensors), rounds, rows };
}

type Pythons = ReadonlyMap<string, string>;

/** The releases that run here: each has moved a small dict in all its ways, and it was the same when it came. */
async function nvflares(context: BenchmarkContext): Promise<Pythons> {
  const { quick, scratch, log, skip, signal } = context;
  const model = join(scratch, "small.safetensors");
  await writeNoise(model, smallShapes());
  const pythons = new Map<string, string>();
  for (const release of quick ? RELEASES.slice(0, 1) : RELEASES) {
    const what = `NVFlare ${release}`;
    try {
      const python = await nvflarePython(release, log, signal);
      const trials = WAYS.map((way) =>
        nvflare({ name: `${what}, ${way}`, python, way, model, scratch, check: true }),
      );
      const outcomes = await race(trials, { rounds: 1, limitSeconds: LIMIT_SECONDS, log, signal });
      const failed = outcomes.filter((outcome) => outcome.failed !== undefined);
      if (failed.length) skip(what, `it does not work here: ${failed.map(({ name }) => name).join("; ")}`);
      else pythons.set(release, python);
    } catch (error) {
      if (!(error instanceof NoNvflare)) throw error;
      skip(what, error.message);
    }
  }
  await rm(model);
  return pythons;
}

function theirEntries(
  pythons: Pythons,
  model: string,
  { scratch }: BenchmarkContext,
): NvflareEntry<NvflareRow>[] {
  return [...pythons].flatMap(([release, python], i) =>
    WAYS.map((way) => {
      // An older release is there to be seen beside the newest: nothing is judged by it.
      const rounds = i ? 1 : ROUNDS;
      const name = `NVFlare ${release}, ${way}`;
      const manner = way === "file" ? ("file" as const) : ("container" as const);
      const contender = nvflare({ name, python, way, model, scratch, check: false, rounds });
      return { row: { name, manner, release, way }, contender };
    }),
  );
}

function ourEntries(
  tensors: readonly TensorInfo[],
  path: string,
  scratch: string,
): NvflareEntry<NvflareRow>[] {
  const containers = TAKEN.flatMap((taken) =>
    CODECS.map((codec) => {
      const name = `${codec}, container, ${taken}`;
      const how = { channel: "ws", held: "all", taken, codec } as const;
      const row = { name, manner: "container" as const, codec, taken };
      return { row, contender: ours({ name, scratch, model: tensors, ...how }) };
    }),
  );
  const files = CODECS.map((codec) => {
    const name = `${codec}, file`;
    const row = { name, manner: "file" as const, codec };
    return { row, contender: ours({ name, scratch, model: path, channel: "ws", codec }) };
  });
  return [...containers, ...files];
}
