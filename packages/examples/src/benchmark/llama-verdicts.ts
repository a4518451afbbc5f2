import { formatMiB } from "../model/byte-size.js";
import { bestCopy, type EndToEndData, type Figures, raceOf } from "./end-to-end-data.js";
import { overWebSocket } from "./end-to-end-verdicts.js";
import type { Verdict } from "./section.js";

/** NVFlare's published figures for streaming Llama-3.2-1B as a file: of both ends together, on a machine of its own. */
const NVFLARE_FILE = { seconds: 170, bytes: 19_176e6 };
/** How the row of the narrow window is called. */
export const NARROW_LABEL = "normfloat4, window of 8 MiB";
const LLAMA = { fasterTimes: 10, smallerTimes: 100 };

export function llamaVerdicts(data: EndToEndData): Verdict[] {
  const time = {
    what: "Llama-3.2-1B's shapes, `normfloat4`: time beside NVFlare's published file streaming (170 s, another machine)",
    bar: `at least ${LLAMA.fasterTimes}x faster`,
  };
  const memory = (codec: string) => ({
    what: `the same, ${codec}: peak RSS of both ends together beside its 19,176 MB`,
    bar: `at most 1/${LLAMA.smallerTimes}`,
  });
  const codecs = ["normfloat4", NARROW_LABEL];
  const figures = overWebSocket(data, "llama", "normfloat4");
  if (!figures) {
    const found = "not measured: see below";
    return [time, ...codecs.map(memory)].map((each) => ({ ...each, found, pass: undefined }));
  }
  const race = raceOf(data, "llama");
  const copy = race && bestCopy(race);
  const faster = NVFLARE_FILE.seconds / figures.seconds;
  const beside = copy ? `; ${(copy.seconds / figures.seconds).toFixed(2)}x the best bare copy here` : "";
  const found = `${faster.toFixed(1)}x: ${figures.seconds.toFixed(1)} s${beside}`;
  return [
    { ...time, found, pass: faster >= LLAMA.fasterTimes },
    ...codecs.map((codec) => ({ ...memory(codec), ...memoryOf(overWebSocket(data, "llama", codec)) })),
  ];
}

function memoryOf(figures: Figures | undefined): Pick<Verdict, "found" | "pass"> {
  if (!figures) return { found: "no run that ended well", pass: undefined };
  const { sender, receiver, seconds } = figures;
  const bytes = sender.peakBytes + receiver.peakBytes;
  const smaller = NVFLARE_FILE.bytes / bytes;
  const ends = `${formatMiB(sender.peakBytes)} and ${formatMiB(receiver.peakBytes)}`;
  const found = `1/${smaller.toFixed(0)}: ${(bytes / 1e6).toFixed(0)} MB (${ends}), in ${seconds.toFixed(1)} s`;
  return { found, pass: smaller >= LLAMA.smallerTimes };
}
