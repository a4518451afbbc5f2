import { formatMiB, formatSize } from "../model/byte-size.js";
import { PEAK_BYTES } from "./end-to-end-verdicts.js";
import { type Series, linePanels } from "./line-panels.js";
import { table } from "./markdown.js";
import {
  figuresOf,
  MODEL_SIZE,
  type ScalingData,
  type ScalingFigures,
  type ScalingSeries,
} from "./scaling-data.js";
import type { Plot, RenderedSection } from "./section.js";
import { INK } from "./theme.js";

const MiB = 2 ** 20;

const TEXT = `
One thing is changed, all else stays: time on the left, memory on the right. Transfers are from file to file over WebSocket, measured
as above; what is told of servers is their own process, warm, and its peak resident memory with Node's own in it. Medians.
`.trim();

const COLOURS: Readonly<Record<string, string>> = {
  sender: INK.blue,
  receiver: INK.orange,
  server: INK.blue,
};

export function renderScaling({ series }: ScalingData): RenderedSection {
  const plots = series.map(plotOf);
  const texts = series.map((each, i) =>
    [`### ${each.title}`, `${capital(each.setting)}.`, `![](${plots[i]!.name})`, tableOf(each)].join("\n\n"),
  );
  return { markdown: [TEXT, ...texts].join("\n\n"), plots };
}

const capital = (text: string): string =>
  // A codec's name stays as it is written.
  text.startsWith("a ") ? `A${text.slice(1)}` : text.replace(/^(\w+)/, "`$1`");

const written = ({ axis }: ScalingSeries, x: number): string =>
  axis.of === "bytes" ? formatSize(x) : x.toLocaleString("en-US");

function tableOf(series: ScalingSeries): string {
  const figures = figuresOf(series);
  const names = figures[0]?.ends.map(({ name }) => name) ?? [];
  const head = [series.axis.title, "seconds", ...names.flatMap((name) => [`${name} peak`, `${name} CPU s`])];
  const rows = series.points.map(({ x, failed }) => {
    const found = figures.find((each) => each.x === x);
    if (!found) return [written(series, x), `failed: ${failed ?? "no run"}`, ...head.slice(2).map(() => "")];
    return [
      written(series, x),
      found.seconds.toFixed(2),
      ...found.ends.flatMap(({ peakBytes, cpuSeconds }) => [formatMiB(peakBytes), cpuSeconds.toFixed(2)]),
    ];
  });
  return table(head, rows);
}

function plotOf(series: ScalingSeries): Plot {
  const { id, title, axis } = series;
  const figures = figuresOf(series);
  const names = figures[0]?.ends.map(({ name }) => name) ?? [];
  const line = (label: string, colour: string, y: (figures: ScalingFigures) => number): Series => ({
    ...{ label, colour },
    points: figures.map((each) => ({ x: each.x, y: y(each) })),
  });
  const memory = names.map((name, i) =>
    line(name, COLOURS[name] ?? INK.green, ({ ends }) => ends[i]!.peakBytes / MiB),
  );
  const bar = { value: PEAK_BYTES / MiB, label: `the bar, ${formatMiB(PEAK_BYTES)}` };
  return {
    name: `scaling-${id}`,
    alt: `Time and memory against: ${title}`,
    spec: linePanels({
      title,
      subtitle: series.setting,
      x: {
        title: axis.title,
        scale: axis.scale,
        labels: figures.map(({ x }) => ({ value: x, text: written(series, x) })),
      },
      panels: [
        { title: "seconds", series: [line("", INK.blue, ({ seconds }) => seconds)] },
        { title: "peak resident memory, MiB", series: memory, ...(id === MODEL_SIZE && { bar }) },
      ],
    }),
  };
}
