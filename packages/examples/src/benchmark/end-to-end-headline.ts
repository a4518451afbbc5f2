import { formatMiB } from "../model/byte-size.js";
import { type EndToEndData, figuresOf, raceOf } from "./end-to-end-data.js";
import { table } from "./markdown.js";

/** Of ours; what they stand beside is told whole. */
const CODECS = ["normfloat4", "blockwise8", "float16", "none"];

/** The one table: what a model of 1 GiB takes, by codec and by what people use instead. */
export function endToEndHeadline(data: EndToEndData): string {
  const race = raceOf(data, "file");
  if (!race) return "";
  const rows = race.rows.flatMap((row) => {
    const figures = figuresOf(row, race.bytes);
    if (!figures || (row.codec && !CODECS.includes(row.codec))) return [];
    return [{ row, figures }];
  });
  rows.sort((a, b) => a.figures.seconds - b.figures.seconds);
  return table(
    [
      "1 GiB of f32, file to file",
      "GB/s",
      "on the wire",
      "CPU s/GB, both ends",
      "peak RSS, sender",
      "receiver",
    ],
    rows.map(({ row, figures: { bytesPerSecond, wireBytes, sender, receiver } }) => [
      row.codec ? `**\`${row.codec}\`**` : row.name,
      (bytesPerSecond / 1e9).toFixed(2),
      wireBytes === undefined ? "" : formatMiB(wireBytes),
      (sender.cpuPerGigabyte + receiver.cpuPerGigabyte).toFixed(2),
      formatMiB(sender.peakBytes),
      formatMiB(receiver.peakBytes),
    ]),
  );
}
