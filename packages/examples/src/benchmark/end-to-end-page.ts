import { formatMiB, formatSize } from "../model/byte-size.js";
import { barChart } from "./bar-chart.js";
import {
  bestCopy,
  type EndToEndData,
  type EndToEndRace,
  type EndToEndRow,
  type Figures,
  figuresOf,
  raceOf,
} from "./end-to-end-data.js";
import { table } from "./markdown.js";
import type { Plot, RenderedSection } from "./section.js";
import { INK } from "./theme.js";

const TEXT = `
Two processes, from the start of both to the exit of both: of ours, each starts Node, imports the package, does its half, and exits.
Both are started at once; a sender waits for the other's address when it has imported what it needs, and that of \`socat\` is started
when its receiver listens.
Contenders run in turns, in the opposite order every second round; as much of the file system's memory as a run takes was written
once before. Figures are medians. *GB/s* is bytes of the model, 10^9, a second; *CPU* is processor seconds for each of those GB, of
all threads, as the shell says that waited for the process; *peak* is resident memory at its highest as the kernel keeps it (VmHWM),
*growth* how much of that came after start-up. *Of the copy* is the speed beside the best bare copy in the same run.
`.trim();

export function renderEndToEnd(data: EndToEndData): RenderedSection {
  const file = raceOf(data, "file");
  const plots = file ? [speedPlot(file)] : [];
  const places = plots.map(({ name }) => `![](${name})`);
  return { markdown: [TEXT, ...places, ...renderRaces(data.races)].join("\n\n"), plots };
}

const sizeText = (bytes: number): string => (bytes % 2 ** 20 ? formatMiB(bytes) : formatSize(bytes));

export const renderRaces = (races: readonly EndToEndRace[]): string[] =>
  races.map((race) => [`### ${race.title}`, describeRace(race), raceTable(race)].join("\n\n"));

export function describeRace({ bytes, tensors, largestBytes, rounds, manner }: EndToEndRace): string {
  const largest = largestBytes !== undefined ? `, the largest of ${sizeText(largestBytes)}` : "";
  const runs = rounds === 1 ? "one run of each" : `medians of ${rounds} runs`;
  const caller =
    manner === "container"
      ? " The sending caller makes each tensor in one buffer, the receiving one borrows one: peaks and growths have the largest tensor in them, which is the callers' own."
      : "";
  return `${sizeText(bytes)} in ${tensors} tensors${largest}; ${runs}.${caller}`;
}

const HEAD = [
  "",
  "GB/s",
  "of the copy",
  "seconds",
  "on the wire",
  "sender CPU s/GB",
  "receiver CPU s/GB",
  "sender peak",
  "growth",
  "receiver peak",
  "growth",
];

export function raceTable(race: EndToEndRace): string {
  const copy = bestCopy(race);
  return table(
    HEAD,
    race.rows.map((row) => cells(row, race, copy)),
  );
}

function cells(row: EndToEndRow, race: EndToEndRace, copy: Figures | undefined): string[] {
  const label = row.codec ? `\`${row.codec}\` over ${row.channel}` : row.name;
  const figures = figuresOf(row, race.bytes);
  const runs = row.runs.length;
  if (row.failed !== undefined)
    return [
      label,
      `failed${runs ? ` after ${runs} runs` : ""}: ${row.failed.replaceAll("|", "\\|")}`,
      ...HEAD.slice(2).map(() => ""),
    ];
  if (!figures) return [label, ...HEAD.slice(1).map(() => "–")];
  const { seconds, bytesPerSecond, wireBytes, sender, receiver } = figures;
  return [
    runs < race.rounds ? `${label} (${runs === 1 ? "one run" : `${runs} runs`})` : label,
    (bytesPerSecond / 1e9).toFixed(2),
    copy ? `${(copy.seconds / seconds).toFixed(2)}x` : "–",
    seconds.toFixed(2),
    wireBytes === undefined ? "–" : formatMiB(wireBytes),
    ...[sender, receiver].map(({ cpuPerGigabyte }) => cpuPerGigabyte.toFixed(2)),
    ...[sender, receiver].flatMap(({ peakBytes, growthBytes }) => [
      formatMiB(peakBytes),
      formatMiB(growthBytes),
    ]),
  ];
}

function speedPlot(race: EndToEndRace): Plot {
  const copy = bestCopy(race);
  const bars = race.rows.flatMap((row) => {
    const figures = figuresOf(row, race.bytes);
    if (!figures) return [];
    const value = figures.bytesPerSecond / 1e9;
    const colour = row.codec ? INK.blue : row.bareCopy ? INK.orange : INK.grey;
    return [{ label: row.codec ?? row.name, value, text: value.toFixed(2), colour }];
  });
  bars.sort((a, b) => b.value - a.value);
  return {
    name: "end-to-end",
    alt: "Bytes of model a second by codec, beside bare copies of the file and what people use instead",
    spec: barChart({
      title: `A model of ${sizeText(race.bytes)} from file to file between two processes`,
      subtitle:
        "over WebSocket by codec (blue), bare copies of the file over TCP (orange), other ways (grey)",
      axis: "GB of model a second, start and exit of both processes included",
      bars,
      ...(copy && { rule: { value: copy.bytesPerSecond / 1e9, label: "the best bare copy" } }),
    }),
  };
}
