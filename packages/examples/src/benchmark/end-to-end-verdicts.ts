import { formatMiB } from "../model/byte-size.js";
import { bestCopy, type EndToEndData, type Figures, figuresOf, raceOf } from "./end-to-end-data.js";
import type { Verdict } from "./section.js";

const MiB = 2 ** 20;

/** Of the best bare copy's model bytes a second. */
const TIMES: Readonly<Record<string, number>> = {
  normfloat4: 1.3,
  blockwise8: 1.0,
  float16: 0.7,
  none: 0.6,
};
export const PEAK_BYTES = 160 * MiB;

/** NVFlare's published figures for streaming Llama-3.2-1B as a file: of both ends together, on a machine of its own. */
const NVFLARE_FILE = { seconds: 170, bytes: 19_176e6 };
const LLAMA = { fasterTimes: 10, smallerTimes: 100 };

export function endToEndVerdicts(data: EndToEndData): Verdict[] {
  return [...speeds(data), peaks(data), ...llama(data)];
}

const overWebSocket = (data: EndToEndData, race: string, codec: string): Figures | undefined => {
  const found = raceOf(data, race);
  const row = found?.rows.find((row) => row.codec === codec && row.channel === "ws");
  return row && figuresOf(row, found!.bytes);
};

function speeds(data: EndToEndData): Verdict[] {
  const race = raceOf(data, "file");
  const copy = race && bestCopy(race, "socat");
  const any = race && bestCopy(race);
  return Object.entries(TIMES).map(([codec, times]) => {
    const what = `\`${codec}\`, 1 GiB, file to file, ws: model bytes a second`;
    const bar = `at least ${times.toFixed(1)}x the best socat copy`;
    const figures = overWebSocket(data, "file", codec);
    if (!copy || !figures) {
      const found = copy ? "no run that ended well" : "no copy by socat to hold it against";
      return { what, bar, found, pass: undefined };
    }
    const ratio = copy.seconds / figures.seconds;
    const others =
      any!.name === copy.name ? "" : `; ${(any!.seconds / figures.seconds).toFixed(2)}x ${any!.name}`;
    const found = `${ratio.toFixed(2)}x (${rate(figures)} beside ${rate(copy)} of ${copy.name})${others}`;
    return { what, bar, found, pass: ratio >= times };
  });
}

const rate = ({ bytesPerSecond }: Figures): string => `${(bytesPerSecond / 1e9).toFixed(2)} GB/s`;

function peaks(data: EndToEndData): Verdict {
  const ends = Object.keys(TIMES).flatMap((codec) => {
    const figures = overWebSocket(data, "file", codec);
    if (!figures) return [];
    return (["sender", "receiver"] as const).map((end) => ({ codec, end, bytes: figures[end].peakBytes }));
  });
  const what = "peak RSS of each end, those four";
  const bar = `at most ${formatMiB(PEAK_BYTES)}`;
  const most = ends.sort((a, b) => b.bytes - a.bytes)[0];
  if (!most) return { what, bar, found: "no run that ended well", pass: undefined };
  const found = `${formatMiB(most.bytes)} at most: the ${most.end}'s with \`${most.codec}\``;
  return { what, bar, found, pass: most.bytes <= PEAK_BYTES };
}

function llama(data: EndToEndData): Verdict[] {
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
