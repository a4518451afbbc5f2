import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { transferModel } from "@tensorwire/stream";
import { demoModel, MODEL } from "../demo/model.js";
import { writeNoise } from "../model/noise-model.js";
import type { EndToEndData, EndToEndRace } from "./end-to-end-data.js";
import { alternatives, CODECS, copies, QUICK_CODECS, transfers } from "./end-to-end-entries.js";
import { endToEndHeadline } from "./end-to-end-headline.js";
import { renderEndToEnd } from "./end-to-end-page.js";
import { runRace, sizesOf } from "./end-to-end-race.js";
import { endToEndVerdicts } from "./end-to-end-verdicts.js";
import { mixedShapes } from "./models.js";
import { touch } from "./room.js";
import type { BenchmarkContext, Section } from "./section.js";

const MiB = 2 ** 20;

/** From file to file over WebSocket, beside copies of the file, and what people use instead. */
export const endToEnd: Section<EndToEndData> = {
  id: "end-to-end",
  title: "End to end",
  measure: async (context) => ({ races: [await mixed(context), await trained(context)] }),
  render: renderEndToEnd,
  headline: endToEndHeadline,
  verdicts: endToEndVerdicts,
};

async function mixed(context: BenchmarkContext): Promise<EndToEndRace> {
  const { quick, scratch } = context;
  const tensors = mixedShapes(quick ? 16 * MiB : 1024 * MiB);
  const source = join(scratch, "mixed.safetensors");
  const sizes = sizesOf(tensors);
  await touch(scratch, 2 * sizes.bytes);
  await writeNoise(source, tensors);
  const entries = [
    ...(await copies(context, source)),
    ...alternatives(context, source, sizes.bytes),
    ...transfers(context, source, CODECS, ["ws"]),
  ];
  const about = { id: "file", title: "Mixed shapes, file to file", manner: "file", rounds: 5 } as const;
  const done = await runRace(context, { ...about, ...sizes }, entries);
  await rm(source);
  return done;
}

/** The demo's model: small, and its weights are not noise. */
async function trained(context: BenchmarkContext): Promise<EndToEndRace> {
  const { quick, scratch } = context;
  const source = join(scratch, "trained.safetensors");
  const { path, tensors } = demoModel();
  await transferModel(path, source);
  const { size: bytes } = await stat(source);
  const entries = [
    ...(quick ? [] : await copies(context, source)),
    ...transfers(context, source, quick ? QUICK_CODECS : CODECS, ["ws"]),
  ];
  const about = { id: "trained", title: `A trained model, ${MODEL}, file to file`, manner: "file" } as const;
  const done = await runRace(context, { ...about, bytes, tensors, rounds: 3 }, entries);
  await rm(source);
  return done;
}
