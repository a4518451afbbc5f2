import { rm } from "node:fs/promises";
import { join } from "node:path";
import { formatMiB } from "../model/byte-size.js";
import { writeNoise } from "../model/noise-model.js";
import type { EndToEndData } from "./end-to-end-data.js";
import { copies, type Entry, JUDGED_CODECS, transfers } from "./end-to-end-entries.js";
import { renderRaces } from "./end-to-end-page.js";
import { runRace, sizesOf } from "./end-to-end-race.js";
import { llamaVerdicts, NARROW_LABEL } from "./llama-verdicts.js";
import { llamaShapes } from "./models.js";
import { ours } from "./ours.js";
import { roomBytes, touch } from "./room.js";
import type { BenchmarkContext, Section } from "./section.js";

/** A model as large as people stream: Llama-3.2-1B's shapes in f32, in full. */
export const llama: Section<EndToEndData> = {
  id: "llama",
  title: "Llama-3.2-1B",
  measure,
  render: ({ races }) => ({ markdown: [TEXT, ...renderRaces(races)].join("\n\n"), plots: [] }),
  verdicts: llamaVerdicts,
};

/** A window that leaves both ends together under a hundredth of what NVFlare takes, for some of the speed. */
const NARROW_BYTES = 8 * 2 ** 20;

const TEXT = `
Its shapes, in f32, with its output head stored beside the embedding; the weights are noise. Measured as above. NVFlare publishes 170 s
and 19,176 MB for streaming this model as a file, both ends together and on a machine of its own: the machines differ, and so the
ratio to a bare copy on this one stands beside.
`.trim();

async function measure(context: BenchmarkContext): Promise<EndToEndData> {
  const tensors = llamaShapes();
  const sizes = sizesOf(tensors);
  const title = "Llama-3.2-1B's shapes, file to file";
  const none = { races: [] };
  if (context.quick) {
    context.skip(title, "not in a quick run");
    return none;
  }
  const { scratch } = context;
  const [needed, room] = [2 * sizes.bytes, await roomBytes(scratch)];
  if (room < needed) {
    context.skip(title, `its two files need ${formatMiB(needed)}, and there is room for ${formatMiB(room)}`);
    return none;
  }
  const source = join(scratch, "llama.safetensors");
  await touch(scratch, needed);
  await writeNoise(source, tensors);
  const entries = [...(await copies(context, source)), ...transfers(context, source, JUDGED_CODECS, ["ws"])];
  entries.push(narrow(scratch, source));
  const about = { id: "llama", title, manner: "file", rounds: 3 } as const;
  const done = await runRace(context, { ...about, ...sizes }, entries);
  await rm(source);
  return { races: [done] };
}

/** `normfloat4` over a WebSocket, both ends with the narrow window. */
function narrow(scratch: string, model: string): Entry {
  const name = `${NARROW_LABEL}, over ws`;
  const windowBytes = NARROW_BYTES;
  const contender = ours({ name, scratch, model, channel: "ws", codec: "normfloat4", windowBytes });
  return { name, codec: NARROW_LABEL, channel: "ws", contender };
}
