import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeNoise } from "../model/noise-model.js";
import { CHANNELS } from "./end-job.js";
import { renderChannels } from "./channels-page.js";
import type { EndToEndData } from "./end-to-end-data.js";
import { CODECS, QUICK_CODECS, transfers } from "./end-to-end-entries.js";
import { runRace, sizesOf } from "./end-to-end-race.js";
import { mixedShapes } from "./models.js";
import { touch } from "./room.js";
import type { BenchmarkContext, Section } from "./section.js";

const MiB = 2 ** 20;

/** Every codec over every channel, and from tensors to tensors. */
export const channels: Section<EndToEndData> = {
  id: "channels",
  title: "Channels, and containers",
  measure,
  render: renderChannels,
};

async function measure(context: BenchmarkContext): Promise<EndToEndData> {
  const { quick, scratch } = context;
  const tensors = mixedShapes(quick ? 16 * MiB : 1024 * MiB);
  const codecs = quick ? QUICK_CODECS : CODECS;
  const source = join(scratch, "mixed.safetensors");
  const sizes = sizesOf(tensors);
  await touch(scratch, 2 * sizes.bytes);
  await writeNoise(source, tensors);
  const file = await runRace(
    context,
    { ...sizes, id: "channels", title: "Mixed shapes over every channel", manner: "file", rounds: 2 },
    transfers(context, source, codecs, CHANNELS),
  );
  await rm(source);
  const container = await runRace(
    context,
    {
      ...sizes,
      id: "container",
      title: "Mixed shapes, container to container",
      manner: "container",
      rounds: 3,
    },
    transfers(context, tensors, codecs, ["ws"]),
  );
  return { races: [file, container] };
}
