import { formatMiB } from "../model/byte-size.js";
import { bestCopy, type EndToEndData, raceOf } from "./end-to-end-data.js";
import { overWebSocket } from "./end-to-end-verdicts.js";
import type { Verdict } from "./section.js";

/** NVFlare's published figures for streaming Llama-3.2-1B as a file: of both ends together, on a machine of its own. */
const NVFLARE_FILE = { seconds: 170, bytes: 19_176e6 };
const LLAMA = { fasterTimes: 10, smallerTimes: 100 };

export function llamaVerdicts(data: EndToEndData): Verdict[] {
  const race = raceOf(data, "llama");
  const figures = overWebSocket(data, "llama", "normfloat4");
  const copy = race && bestCopy(race);
  const time = {
    what: "Llama-3.2-1B's shapes, `normfloat4`: time beside NVFlare's published file streaming (170 s, another machine)",
    bar: `${LLAMA.fasterTimes}x faster`,
  };
  const memory = {
    what: "the same: peak RSS of both ends together beside its 19,176 MB",
    bar: `at most 1/${LLAMA.smallerTimes}`,
  };
  if (!figures) {
    const found = "not measured: see below";
    return [time, memory].map((each) => ({ ...each, found, pass: undefined }));
  }
  const faster = NVFLARE_FILE.seconds / figures.seconds;
  const beside = copy ? `; ${(copy.seconds / figures.seconds).toFixed(2)}x the best bare copy here` : "";
  const { sender, receiver } = figures;
  const bytes = sender.peakBytes + receiver.peakBytes;
  const smaller = NVFLARE_FILE.bytes / bytes;
  return [
    {
      ...time,
      found: `${faster.toFixed(1)}x: ${figures.seconds.toFixed(1)} s${beside}`,
      pass: faster >= LLAMA.fasterTimes,
    },
    {
      ...memory,
      found: `1/${smaller.toFixed(0)}: ${(bytes / 1e6).toFixed(0)} MB (${formatMiB(sender.peakBytes)} and ${formatMiB(receiver.peakBytes)})`,
      pass: smaller >= LLAMA.smallerTimes,
    },
  ];
}
