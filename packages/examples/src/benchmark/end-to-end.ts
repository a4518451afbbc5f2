import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { TensorInfo } from "@tensorwire/core";
import { transferModel } from "@tensorwire/stream";
import { demoModel, MODEL } from "../demo/model.js";
import { formatMiB } from "../model/byte-size.js";
import { writeNoise } from "../model/noise-model.js";
import { CHANNELS } from "./end-job.js";
import type { EndToEndData, EndToEndRace } from "./end-to-end-data.js";
import {
  alternatives,
  CODECS,
  copies,
  type Entry,
  JUDGED_CODECS,
  QUICK_CODECS,
  transfers,
} from "./end-to-end-entries.js";
import { endToEndHeadline } from "./end-to-end-headline.js";
import { renderEndToEnd } from "./end-to-end-page.js";
import { endToEndVerdicts } from "./end-to-end-verdicts.js";
import { f32Bytes, largestBytes, llamaShapes, mixedShapes } from "./models.js";
import { race } from "./race.js";
import { roomBytes, touch } from "./room.js";
import type { BenchmarkContext, Section } from "./section.js";

const MiB = 2 ** 20;

/** Slower than any contender should be, gzip too. */
const LEAST_BYTES_PER_SECOND = 10e6;
const LEAST_LIMIT_SECONDS = 60;

type Setting = Omit<EndToEndRace, "rows">;

export const endToEnd: Section<EndToEndData> = {
  id: "end-to-end",
  title: "End to end",
  measure: async (context) => ({
    races: [...(await mixed(context)), ...(await trained(context)), ...(await llama(context))],
  }),
  render: renderEndToEnd,
  headline: endToEndHeadline,
  verdicts: endToEndVerdicts,
};

async function run(
  { quick, log, signal }: BenchmarkContext,
  setting: Setting,
  entries: readonly Entry[],
): Promise<EndToEndRace> {
  const { title, bytes } = setting;
  const rounds = quick ? 1 : setting.rounds;
  log(`${title}: ${entries.length} contenders, ${rounds} runs of each`);
  const outcomes = await race(
    entries.map(({ contender }) => contender),
    { rounds, signal, log, limitSeconds: LEAST_LIMIT_SECONDS + bytes / LEAST_BYTES_PER_SECOND },
  );
  const rows = entries.map(({ contender: _, ...row }, i) => ({ ...row, ...outcomes[i]! }));
  return { ...setting, rounds, rows };
}

async function mixed(context: BenchmarkContext): Promise<EndToEndRace[]> {
  const { quick, scratch } = context;
  const tensors = mixedShapes(quick ? 16 * MiB : 1024 * MiB);
  const source = join(scratch, "mixed.safetensors");
  const sizes = sizesOf(tensors);
  const { bytes } = sizes;
  await touch(scratch, 2 * bytes);
  await writeNoise(source, tensors);
  const file = { ...sizes, manner: "file" } as const;
  const bare = [...(await copies(context, source)), ...alternatives(context, source, bytes)];
  const others = CHANNELS.filter((channel) => channel !== "ws");
  const races = [
    await run(context, { ...file, id: "file", title: "Mixed shapes, file to file", rounds: 5 }, [
      ...bare,
      ...transfers(context, source, CODECS, ["ws"]),
    ]),
    await run(
      context,
      { ...file, id: "channels", title: "Mixed shapes, over other channels", rounds: 2 },
      transfers(context, source, quick ? QUICK_CODECS : CODECS, others),
    ),
    await run(
      context,
      {
        ...sizes,
        manner: "container",
        id: "container",
        title: "Mixed shapes, container to container",
        rounds: 3,
      },
      transfers(context, tensors, quick ? QUICK_CODECS : CODECS, ["ws"]),
    ),
  ];
  await rm(source);
  return races;
}

/** The demo's model: small, and its weights are not noise. */
async function trained(context: BenchmarkContext): Promise<EndToEndRace[]> {
  const source = join(context.scratch, "trained.safetensors");
  const { path, tensors } = demoModel();
  await transferModel(path, source);
  const { size: bytes } = await stat(source);
  const setting: Setting = {
    ...{ id: "trained", title: `${MODEL}, file to file`, manner: "file" },
    ...{ bytes, tensors, largestBytes: 0, rounds: 3 },
  };
  const entries = [
    ...(context.quick ? [] : await copies(context, source)),
    ...transfers(context, source, context.quick ? QUICK_CODECS : CODECS, ["ws"]),
  ];
  const done = await run(context, setting, entries);
  await rm(source);
  return [done];
}

async function llama(context: BenchmarkContext): Promise<EndToEndRace[]> {
  const tensors = llamaShapes();
  const title = "Llama-3.2-1B's shapes, file to file";
  const sizes = sizesOf(tensors);
  if (context.quick) {
    context.skip(title, "not in a quick run");
    return [];
  }
  const { scratch } = context;
  const room = await roomBytes(scratch);
  if (room < 2 * sizes.bytes) {
    const why = `it needs ${formatMiB(2 * sizes.bytes)} for its two files, and there are ${formatMiB(room)}`;
    context.skip(title, why);
    return [];
  }
  const source = join(scratch, "llama.safetensors");
  await touch(scratch, 2 * sizes.bytes);
  await writeNoise(source, tensors);
  const entries = [...(await copies(context, source)), ...transfers(context, source, JUDGED_CODECS, ["ws"])];
  const setting = { ...sizes, id: "llama", title, manner: "file", rounds: 3 } as const;
  const done = await run(context, setting, entries);
  await rm(source);
  return [done];
}

const sizesOf = (tensors: readonly TensorInfo[]): Pick<Setting, "bytes" | "tensors" | "largestBytes"> => ({
  bytes: f32Bytes(tensors),
  tensors: tensors.length,
  largestBytes: largestBytes(tensors),
});
