import { type GroupMark, type Mark, parse, type Spec, View } from "vega";
import type { Way } from "../ends/job.js";
import { formatSize } from "../model/byte-size.js";
import { PEAK_BYTES } from "./bars.js";
import type { EndMeasurement, Measurement } from "./measurement.js";

const MiB = 2 ** 20;

/** Okabe and Ito's colours, which colour-blind readers tell apart. */
const COLOURS: Record<Way, string> = { regular: "#d55e00", container: "#0072b2", file: "#009e73" };

/** Of one panel. */
const WIDTH = 210;
const HEIGHT = 190;
/** More points than this are not seen at this width. */
const MAX_POINTS = 210;

interface Point {
  readonly at: number;
  readonly mib: number;
}

/** Memory over time as SVG: a column for each way, with a clock of its own; a row for each end. */
export async function memoryPlot(runs: readonly Measurement[], modelBytes: number): Promise<string> {
  const view = new View(parse(plotSpec(runs, modelBytes)), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

/** Keeps every span's largest sample, so that thinning hides no peak. */
function points({ samples }: EndMeasurement): Point[] {
  const span = Math.max(1, Math.ceil(samples.length / MAX_POINTS));
  const kept: Point[] = [];
  for (let at = 0; at < samples.length; at += span) {
    const most = samples.slice(at, at + span).reduce((a, b) => (b.rssBytes > a.rssBytes ? b : a));
    kept.push({ at: Number(most.at.toFixed(3)), mib: Number((most.rssBytes / MiB).toFixed(1)) });
  }
  return kept;
}

function plotSpec(runs: readonly Measurement[], modelBytes: number): Spec {
  const ends = ["sender", "receiver"] as const;
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
      offset: 16,
    },
    layout: { columns: runs.length, padding: { row: 24, column: 24 }, bounds: "full", align: "all" },
    scales: [{ name: "y", type: "log", base: 2, domain: [ticks[0]!, ticks.at(-1)!], range: [HEIGHT, 0] }],
    marks: ends.flatMap((end) => runs.map((run, column) => panel({ run, end, column, ticks, modelBytes }))),
  };
}

interface Panel {
  readonly run: Measurement;
  readonly end: "sender" | "receiver";
  readonly column: number;
  readonly ticks: readonly number[];
  readonly modelBytes: number;
}

function panel({ run, end, column, ticks, modelBytes }: Panel): GroupMark {
  const samples = points(run[end]);
  const name = `${run.way}-${end}`;
  const top = end === "sender";
  const title = {
    text: `${run.way}, ${run.seconds.toFixed(1)} s`,
    anchor: "start",
    frame: "group",
    fontSize: 12,
    offset: 8,
  } as const;
  return {
    type: "group",
    ...(top && { title }),
    encode: { enter: { width: { value: WIDTH }, height: { value: HEIGHT } } },
    data: [
      { name, values: [...samples] },
      { name: `${name}-lines`, values: boundaries(column, modelBytes, run[end].callerBytes) },
    ],
    scales: [{ name: "x", type: "linear", domain: [0, samples.at(-1)?.at ?? 1], range: [0, WIDTH] }],
    axes: [
      { scale: "x", orient: "bottom", title: top ? "" : "seconds", tickCount: 5 },
      {
        scale: "y",
        orient: "left",
        title: column === 0 ? `RSS of the ${end}` : "",
        labels: column === 0,
        ticks: column === 0,
        values: [...ticks],
        encode: yLabels,
      },
    ],
    marks: [...boundaryMarks(`${name}-lines`), line(name, COLOURS[run.way])],
  };
}

const boundaryMarks = (data: string): Mark[] => [
  {
    type: "rule",
    from: { data },
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
    from: { data },
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
];

const line = (data: string, colour: string): Mark => ({
  type: "line",
  from: { data },
  encode: {
    enter: {
      x: { scale: "x", field: "at" },
      y: { scale: "y", field: "mib" },
      stroke: { value: colour },
      strokeWidth: { value: 2 },
    },
  },
});

const yLabels = {
  labels: {
    update: { text: { signal: "datum.value < 1024 ? datum.value + ' MiB' : datum.value / 1024 + ' GiB'" } },
  },
};

interface Boundary {
  readonly mib: number;
  readonly label: string;
}

/** They run through all columns, and are named in the first; the caller's tensor is its own column's. */
function boundaries(column: number, modelBytes: number, callerBytes: number): Boundary[] {
  const shared = [
    { mib: modelBytes / MiB, label: "the model" },
    { mib: PEAK_BYTES / MiB, label: `the bound, ${PEAK_BYTES / MiB} MiB` },
  ].map(({ mib, label }) => ({ mib, label: column === 0 ? label : "" }));
  return callerBytes ? [...shared, { mib: callerBytes / MiB, label: "its caller's one tensor" }] : shared;
}

/** From 32 MiB, less than Node itself takes, to what is above `most`. */
function powersOfTwo(most: number): number[] {
  const values = [32];
  while (values.at(-1)! < most) values.push(values.at(-1)! * 2);
  return values;
}
