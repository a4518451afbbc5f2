import { CHANNELS } from "./end-job.js";
import { type EndToEndData, type EndToEndRace, figuresOf } from "./end-to-end-data.js";
import { describeRace, raceTable } from "./end-to-end-page.js";
import { table } from "./markdown.js";
import type { RenderedSection } from "./section.js";

const TEXT = `
Measured as above. *pipe* is a pipe of the system between the two processes' standard output and input, which has no way back: nobody
confirms anything. In \`http\` the sender uploads. All on one machine, without TLS.
`.trim();

export function renderChannels({ races }: EndToEndData): RenderedSection {
  const texts = races.map((race) => {
    const rows = raceTable(race);
    const text = race.manner === "file" ? `${matrix(race)}\n\n${folded("All figures", rows)}` : rows;
    return [`### ${race.title}`, describeRace(race), text].join("\n\n");
  });
  return { markdown: [TEXT, ...texts].join("\n\n"), plots: [] };
}

/** GB/s of every codec over every channel. */
function matrix({ rows, bytes }: EndToEndRace): string {
  const codecs = [...new Set(rows.flatMap(({ codec }) => codec ?? []))];
  const cell = (codec: string, channel: string): string => {
    const row = rows.find((row) => row.codec === codec && row.channel === channel);
    const figures = row && figuresOf(row, bytes);
    return figures ? (figures.bytesPerSecond / 1e9).toFixed(2) : row?.failed ? "failed" : "–";
  };
  const lines = codecs.map((codec) => [`\`${codec}\``, ...CHANNELS.map((channel) => cell(codec, channel))]);
  return `GB of model a second:\n\n${table(["", ...CHANNELS], lines)}`;
}

const folded = (title: string, text: string): string =>
  `<details><summary>${title}</summary>\n\n${text}\n\n</details>`;
