import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { TensorInfo } from "@tensorwire/core";
import { formatSize } from "../model/byte-size.js";
import { noiseTensors, writeNoise } from "../model/noise-model.js";
import type { Contender } from "./contender.js";
import { equalShapes, f32Bytes } from "./models.js";
import { type OurTransfer, ours } from "./ours.js";
import { race } from "./race.js";
import { roomBytes, touch } from "./room.js";
import { MODEL_SIZE, type ScalingPoint, type ScalingSeries } from "./scaling-data.js";
import type { BenchmarkContext } from "./section.js";

const KiB = 2 ** 10;
const MiB = 2 ** 20;

const ROUNDS = 3;
const LIMIT_SECONDS = 240;
const CODEC = "normfloat4";

/** Model sizes in doublings, and what else is changed, of a model of this size. */
const FULL = { least: 256 * MiB, most: 8192 * MiB, bytes: 1024 * MiB, many: 256 * MiB };
const QUICK = { least: 8 * MiB, most: 16 * MiB, bytes: 16 * MiB, many: 8 * MiB };

const sizesOf = ({ quick }: BenchmarkContext): typeof FULL => (quick ? QUICK : FULL);

/** Powers of `step` from `least` to `most`. */
function steps(least: number, most: number, step: number): number[] {
  const values = [least];
  while (values.at(-1)! * step <= most) values.push(values.at(-1)! * step);
  return values;
}

/** From one file to another, between two processes over WebSocket: one series after another. */
export async function* transferSeries(context: BenchmarkContext): AsyncGenerator<ScalingSeries> {
  const { quick } = context;
  const { least, most, bytes, many } = sizesOf(context);
  const few = (values: readonly number[]): readonly number[] => (quick ? values.slice(0, 1) : values);
  yield await series(
    context,
    {
      ...{ id: MODEL_SIZE, title: "Size of the model" },
      setting: `${CODEC}; the largest tensor is half the model; chunks and window as by default`,
      axis: { title: "size of the model", of: "bytes", scale: "linear" },
    },
    steps(least, most, 2).map((x) => ({ x, tensors: noiseTensors({ bytes: x, largestBytes: x / 2 }) })),
  );
  yield await series(
    context,
    {
      ...{ id: "largest-tensor", title: "Largest tensor" },
      setting: `${CODEC}; a model of ${formatSize(bytes)}`,
      axis: { title: "largest tensor", of: "bytes", scale: "log" },
    },
    few(steps(4 * MiB, bytes, 4)).map((x) => ({ x, tensors: noiseTensors({ bytes, largestBytes: x }) })),
  );
  yield await series(
    context,
    {
      ...{ id: "tensors", title: "Number of tensors" },
      setting: `none; ${formatSize(many)} in tensors of equal size`,
      axis: { title: "tensors", of: "count", scale: "log" },
    },
    few([1, 16, 256, 4096, 65536]).map((x) => ({ x, tensors: equalShapes(many, x), codec: "none" })),
  );
  const tensors = noiseTensors({ bytes, largestBytes: bytes / 2 });
  yield await series(
    context,
    {
      ...{ id: "chunk", title: "Size of a chunk" },
      setting: `${CODEC}; a model of ${formatSize(bytes)}, a window of 32 MiB`,
      axis: { title: "chunk", of: "bytes", scale: "log" },
    },
    few(steps(64 * KiB, 16 * MiB, 4)).map((x) => ({ x, tensors, chunkBytes: x })),
  );
  yield await series(
    context,
    {
      ...{ id: "window", title: "Window" },
      setting: `${CODEC}; a model of ${formatSize(bytes)}; chunks of 4 MiB, or half the window`,
      axis: { title: "window", of: "bytes", scale: "log" },
    },
    few(steps(2 * MiB, 512 * MiB, 4)).map((x) => ({ x, tensors, windowBytes: x })),
  );
}

type Place = Partial<Pick<OurTransfer, "codec" | "chunkBytes" | "windowBytes">> & {
  readonly x: number;
  readonly tensors: readonly TensorInfo[];
};

async function series(
  context: BenchmarkContext,
  about: Omit<ScalingSeries, "points">,
  places: readonly Place[],
): Promise<ScalingSeries> {
  const { scratch, log } = context;
  log(`${about.title}: ${places.length} places`);
  const source = join(scratch, "source.safetensors");
  const contenderOf = ({ x, tensors: _, ...how }: Place): Contender =>
    ours({ name: String(x), scratch, model: source, channel: "ws", codec: CODEC, ...how });
  const points: ScalingPoint[] = [];
  // Where all places have the same model, they take turns.
  const together = places.every(({ tensors }) => tensors === places[0]!.tensors);
  for (const group of together ? [places] : places.map((place) => [place])) {
    const { x, tensors } = group[0]!;
    const needed = 2 * f32Bytes(tensors);
    if ((await roomBytes(scratch)) < needed) {
      context.skip(`${about.title}: ${formatSize(x)}`, `it needs ${formatSize(needed)} for its two files`);
      continue;
    }
    await touch(scratch, needed);
    await writeNoise(source, tensors);
    points.push(
      ...(await measure(
        context,
        group.map((place) => [place.x, contenderOf(place)] as const),
      )),
    );
    await rm(source);
  }
  return { ...about, points };
}

async function measure(
  { quick, signal, log }: BenchmarkContext,
  places: readonly (readonly [number, Contender])[],
): Promise<ScalingPoint[]> {
  const options = { rounds: quick ? 1 : ROUNDS, limitSeconds: LIMIT_SECONDS, signal, log };
  const outcomes = await race(
    places.map(([, contender]) => contender),
    options,
  );
  return outcomes.map(({ name: _, runs, ...failure }, i) => ({
    x: places[i]![0],
    runs: runs.map(({ seconds, sender, receiver }) => ({
      seconds,
      ends: Object.entries({ sender, receiver }).map(([name, { peakBytes, cpuSeconds }]) => ({
        ...{ name, peakBytes, cpuSeconds },
      })),
    })),
    ...failure,
  }));
}
