import { formatMiB } from "../../model/byte-size.js";
import type { Verdict } from "../section.js";
import { fastest, type NvflareData, ours, theirs } from "./data.js";

/** How many times as fast as NVFlare's fastest way. */
export const FASTER: Readonly<Record<string, number>> = { normfloat4: 8, none: 4 };
/** What the receiver may grow by, of what NVFlare's does in its container way. */
export const SMALLER = 15;

const MANNERS = [
  { manner: "container", taken: "chunks", words: "container to container" },
  { manner: "file", taken: undefined, words: "file to file" },
] as const;

export function nvflareVerdicts(data: NvflareData): Verdict[] {
  const rows = theirs(data);
  const first = fastest(rows);
  if (!first) return [];
  const { release, way } = first.row;
  const speeds = MANNERS.flatMap(({ manner, taken, words }) =>
    Object.entries(FASTER).map(([codec, times]): Verdict => {
      const what = `\`${codec}\`, ${words}: time beside NVFlare ${release} on the same dict`;
      const bar = `${times}x as fast as its fastest way`;
      const found = ours(data, { manner, codec, ...(taken && { taken }) });
      if (!found) return { what, bar, found: "no run that ended well", pass: undefined };
      const ratio = first.figures.seconds / found.figures.seconds;
      const seconds = `${found.figures.seconds.toFixed(2)} s beside ${first.figures.seconds.toFixed(2)} s of its ${way} way`;
      return { what, bar, found: `${ratio.toFixed(1)}x: ${seconds}`, pass: ratio >= times };
    }),
  );
  return [...speeds, ...growth(data)];
}

function growth(data: NvflareData): Verdict[] {
  const container = theirs(data).find(({ row }) => row.way === "container");
  if (!container) return [];
  const theirBytes = container.figures.receiver.growthBytes;
  const what = `growth of the receiver's memory beside NVFlare ${container.row.release}'s container way, \`normfloat4\``;
  const bar = `at most 1/${SMALLER}`;
  return MANNERS.map(({ manner, taken, words }): Verdict => {
    const each = { what: `${words}: ${what}`, bar };
    const found = ours(data, { manner, codec: "normfloat4", ...(taken && { taken }) });
    if (!found) return { ...each, found: "no run that ended well", pass: undefined };
    const { growthBytes } = found.figures.receiver;
    const ratio = theirBytes / growthBytes;
    return {
      ...each,
      found: `1/${ratio.toFixed(1)}: ${formatMiB(growthBytes)} beside ${formatMiB(theirBytes)}`,
      pass: ratio >= SMALLER,
    };
  });
}
