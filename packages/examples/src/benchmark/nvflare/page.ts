import { formatMiB } from "../../model/byte-size.js";
import { barChart } from "../bar-chart.js";
import { table } from "../markdown.js";
import type { Plot, RenderedSection } from "../section.js";
import { INK } from "../theme.js";
import {
  type DictFigures,
  dictFigures,
  fastest,
  type NvflareData,
  type NvflareRow,
  releasesOf,
  TAKEN_WORDS,
  type Taken,
  theirs,
} from "./data.js";

export function renderNvflare(data: NvflareData): RenderedSection {
  const plots = data.dict.rows.some(({ runs }) => runs.length) ? [timePlot(data), memoryPlot(data)] : [];
  const places = plots.map(({ name }) => `![](${name})`);
  return { markdown: [...dictText(data), ...places].join("\n\n"), plots };
}

function labelOf(row: NvflareRow): string {
  if ("release" in row) return `NVFlare ${row.release}, ${row.way}`;
  return `\`${row.codec}\`, ${row.taken ? `container, ${TAKEN_WORDS[row.taken]}` : "file"}`;
}

function madeOf(data: NvflareData): string {
  const versions = theirs(data)[0]?.row.runs[0]?.sender.versions;
  return versions ? `, with Python ${versions.python} and numpy ${versions.numpy}` : "";
}

function dictText(data: NvflareData): string[] {
  const { bytes, tensors, largestBytes, rounds, rows } = data.dict;
  const releases = releasesOf(data);
  const who = releases.length
    ? `NVFlare (${releases.join(" and ")}, from PyPI${madeOf(data)}: a process with a \`Cell\` at each end, joined over TCP)`
    : "NVFlare, which could not run here,";
  const runs = rounds === 1 ? "one run of each" : `medians of ${rounds} runs`;
  const first = fastest(theirs(data));
  const head = ["", "seconds", ...(first ? ["times as fast"] : []), "start to exit, s"];
  const ends = ["sender growth", "receiver growth", "sender peak", "receiver peak"];
  const cells = (row: NvflareRow): string[] => {
    const figures = dictFigures(row);
    const label = row.runs.length === 1 && rounds > 1 ? `${labelOf(row)} (one run)` : labelOf(row);
    if (!figures) return [label, "failed", ...[...head, ...ends].slice(2).map(() => "–")];
    const { seconds, wholeSeconds, sender, receiver } = figures;
    const times = first ? [(first.figures.seconds / seconds).toFixed(1)] : [];
    const memory = [sender.growthBytes, receiver.growthBytes, sender.peakBytes, receiver.peakBytes];
    return [label, seconds.toFixed(2), ...times, wholeSeconds.toFixed(2), ...memory.map(formatMiB)];
  };
  return [
    `${who} and ours move the same dict of ${tensors} f32 arrays, ${formatMiB(bytes)}, the largest of ${formatMiB(largestBytes)}` +
      " (the tensors of GPT-2 medium), in turns, in the opposite order every second round; " +
      `${runs}. *Regular* is one message of the whole dict, *container* NVFlare's ContainerStreamer, *file* its FileDownloader,` +
      " with the settings that it has by itself; nothing is quantized. Ours goes over a WebSocket. Senders of dicts hold them before;" +
      " files lie in memory at both ends.",
    "*Seconds* are of the transfer alone: from the word at the sender, both processes up, until the receiver has everything." +
      (first
        ? ` *Times as fast* is beside the fastest of NVFlare ${first.row.release}: ${first.row.way}.`
        : "") +
      " *Growth* is from there to the kernel's high-water mark (VmHWM): without the dict at the sender, with all that a receiver keeps." +
      " NVFlare's receivers of dicts keep the whole dict; ours does so in the rows that say it, and holds a tensor or a chunk at a time in the others.",
    table([...head, ...ends], rows.map(cells)),
  ];
}

/** What there is room for beside a bar. */
const SHORT: Readonly<Record<Taken, string>> = { chunks: "chunks", tensors: "tensors", all: "all kept" };

const shortLabel = (row: NvflareRow): string =>
  "release" in row || !row.taken
    ? labelOf(row).replaceAll("`", "")
    : `${row.codec}, container, ${SHORT[row.taken]}`;

interface Drawn {
  readonly name: string;
  readonly alt: string;
  readonly title: string;
  readonly subtitle: string;
  readonly axis: string;
  readonly value: (figures: DictFigures) => number;
  readonly text: (value: number) => string;
}

function plotOf({ dict }: NvflareData, { name, alt, title, subtitle, axis, value, text }: Drawn): Plot {
  const bars = dict.rows.flatMap((row) => {
    const figures = dictFigures(row);
    if (!figures) return [];
    const colour = "release" in row ? INK.grey : row.codec === "none" ? INK.green : INK.blue;
    const found = value(figures);
    return [{ label: shortLabel(row), value: found, text: text(found), colour }];
  });
  return {
    name,
    alt,
    spec: barChart({ title, subtitle, axis, bars: bars.sort((a, b) => a.value - b.value) }),
  };
}

const OURS = "NVFlare (grey), ours with normfloat4 (blue) and with none (green)";

const timePlot = (data: NvflareData): Plot =>
  plotOf(data, {
    name: "nvflare-time",
    alt: "Seconds that NVFlare and ours take for the same dict, by way",
    title: "Time for the same dict between two processes",
    subtitle: OURS,
    axis: "seconds of the transfer",
    value: ({ seconds }) => seconds,
    text: (seconds) => `${seconds.toFixed(2)} s`,
  });

const memoryPlot = (data: NvflareData): Plot =>
  plotOf(data, {
    name: "nvflare-memory",
    alt: "By how much the memory of the receivers of NVFlare and of ours grows, by way",
    title: "Growth of the receiver's memory meanwhile",
    subtitle: OURS,
    axis: "MiB of resident memory",
    value: ({ receiver }) => receiver.growthBytes / 2 ** 20,
    text: (mebibytes) => mebibytes.toFixed(0),
  });
