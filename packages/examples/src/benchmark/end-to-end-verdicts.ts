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

export function endToEndVerdicts(data: EndToEndData): Verdict[] {
  return [...speeds(data), peaks(data)];
}

/** What a codec over WebSocket came to in a race. */
export const overWebSocket = (data: EndToEndData, race: string, codec: string): Figures | undefined => {
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
