import { parse, type Spec, View } from "vega";
import type { Way } from "../ends/job.js";
import { formatSize } from "../model/byte-size.js";
import { PEAK_BYTES } from "./bars.js";
import type { EndMeasurement, Measurement } from "./measurement.js";

const MiB = 2 ** 20;

/** Okabe and Ito's colours, which colour-blind readers tell apart. */
const COLOURS: Record<Way, string> = { regular: "#d55e00", container: "#0072b2", file: "#009e73" };

const WIDTH = 640;
const HEIGHT = 180;
/** More points than this are not seen at this width. */
const MAX_POINTS = 320;

interface Point {
  readonly way: Way;
  readonly at: number;
  readonly mib: number;
}

/** Memory over time, for both ends and each way, as SVG. */
export async function memoryPlot(runs: readonly Measurement[], modelBytes: number): Promise<string> {
  const view = new View(parse(plotSpec(runs, modelBytes)), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

/** Keeps every span's largest sample, so that thinning hides no peak. */
function points(way: Way, { samples }: EndMeasurement): Point[] {
  const span = Math.max(1, Math.ceil(samples.length / MAX_POINTS));
  const kept: Point[] = [];
  for (let at = 0; at < samples.length; at += span) {
    const most = samples.slice(at, at + span).reduce((a, b) => (b.rssBytes > a.rssBytes ? b : a));
    kept.push({ way, at: Number(most.at.toFixed(3)), mib: Number((most.rssBytes / MiB).toFixed(1)) });
  }
  return kept;
}

function plotSpec(runs: readonly Measurement[], modelBytes: number): Spec {
  const ends = ["sender", "receiver"] as const;
  const seconds = Math.max(...runs.flatMap((run) => ends.map((end) => run[end].samples.at(-1)?.at ?? 0)));
  const most = Math.max(modelBytes, ...runs.flatMap((run) => ends.map((end) => run[end].peakBytes))) / MiB;
  const ticks = powersOfTwo(most);
  return {
    $schema: "https://vega.github.io/schema/vega/v5.json",
    background: "white",
    padding: 12,
    config: { style: { "guide-label": { fontSize: 11 }, "guide-title": { fontSize: 12 } } },
    title: {
      text: `Resident memory while a model of ${formatSize(modelBytes)} moves between two processes`,
      anchor: "start",
      fontSize: 14,
      offset: 14,
    },
    layout: { columns: 1, padding: { row: 28 } },
    scales: [
      {
        name: "colour",
        type: "ordinal",
        domain: runs.map(({ way }) => way),
        range: runs.map(({ way }) => COLOURS[way]),
      },
      { name: "x", type: "linear", domain: [0, seconds], range: [0, WIDTH] },
      {
        name: "y",
        type: "log",
        base: 2,
        domain: [ticks[0]!, Math.max(most * 1.1, ticks.at(-1)!)],
        range: [HEIGHT, 0],
      },
    ],
    legends: [
      {
        stroke: "colour",
        symbolType: "stroke",
        orient: "bottom",
        direction: "horizontal",
        columns: 3,
        offset: 10,
      },
    ],
    marks: ends.map((end, i) => ({
      type: "group",
      title: { text: end, anchor: "start", fontSize: 12, offset: 6 },
      encode: { enter: { width: { value: WIDTH }, height: { value: HEIGHT } } },
      data: [
        { name: `points-${end}`, values: runs.flatMap((run) => points(run.way, run[end])) },
        { name: `lines-${end}`, values: boundaries(modelBytes) },
      ],
      axes: [
        { scale: "x", orient: "bottom", title: i === ends.length - 1 ? "seconds" : "", tickCount: 10 },
        {
          scale: "y",
          orient: "left",
          title: "RSS",
          grid: true,
          gridColor: "#eee",
          values: ticks,
          encode: yLabels,
        },
      ],
      marks: [
        {
          type: "rule",
          from: { data: `lines-${end}` },
          encode: {
            enter: {
              x: { value: 0 },
              x2: { value: WIDTH },
              y: { scale: "y", field: "mib" },
              stroke: { value: "#888" },
              strokeDash: { value: [4, 3] },
            },
          },
        },
        {
          type: "text",
          from: { data: `lines-${end}` },
          encode: {
            enter: {
              x: { value: WIDTH - 4 },
              y: { scale: "y", field: "mib", offset: -4 },
              text: { field: "label" },
              align: { value: "right" },
              fill: { value: "#666" },
              fontSize: { value: 10 },
            },
          },
        },
        {
          type: "group",
          from: { facet: { name: `way-${end}`, data: `points-${end}`, groupby: "way" } },
          marks: [
            {
              type: "line",
              from: { data: `way-${end}` },
              encode: {
                enter: {
                  x: { scale: "x", field: "at" },
                  y: { scale: "y", field: "mib" },
                  stroke: { scale: "colour", field: "way" },
                  strokeWidth: { value: 1.8 },
                },
              },
            },
          ],
        },
      ],
    })),
  };
}

const yLabels = {
  labels: {
    update: { text: { signal: "datum.value < 1024 ? datum.value + ' MiB' : datum.value / 1024 + ' GiB'" } },
  },
};

const boundaries = (modelBytes: number): { mib: number; label: string }[] => [
  { mib: modelBytes / MiB, label: "the model" },
  { mib: PEAK_BYTES / MiB, label: `the bound, ${PEAK_BYTES / MiB} MiB` },
];

/** From 32 MiB, less than Node itself takes, to what is above `most`. */
function powersOfTwo(most: number): number[] {
  const values = [32];
  while (values.at(-1)! < most) values.push(values.at(-1)! * 2);
  return values;
}
