import type { GroupMark, Mark, Scale, Spec } from "vega";
import { INK } from "./theme.js";

/** Panels side by side over the same x axis: what grows, and what does not. */
export interface LinePanels {
  readonly title: string;
  readonly subtitle: string;
  readonly x: { readonly title: string; readonly scale: "linear" | "log"; readonly labels: readonly Tick[] };
  readonly panels: readonly Panel[];
}

/** A value on the x axis, and how it is written. */
export interface Tick {
  readonly value: number;
  readonly text: string;
}

export interface Panel {
  /** With its unit. */
  readonly title: string;
  readonly series: readonly Series[];
  /** A line that is not to be crossed. */
  readonly bar?: { readonly value: number; readonly label: string };
}

export interface Series {
  readonly label: string;
  readonly colour: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

const WIDTH = 270;
const HEIGHT = 220;

export function linePanels({ title, subtitle, x, panels }: LinePanels): Spec {
  const values = x.labels.map(({ value }) => value);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const scale: Scale =
    x.scale === "log"
      ? { name: "x", type: "log", base: 2, domain: [least, most], range: [0, WIDTH] }
      : { name: "x", type: "linear", zero: true, domain: [0, most], range: [0, WIDTH] };
  return {
    $schema: "https://vega.github.io/schema/vega/v5.json",
    title: { text: title, subtitle, subtitlePadding: 4, offset: 18 },
    layout: { columns: panels.length, padding: { column: 120 }, bounds: "flush", align: "all" },
    scales: [scale],
    marks: panels.map((panel, i) => panelMark(panel, x, `panel-${i}`)),
  };
}

function panelMark({ title, series, bar }: Panel, x: LinePanels["x"], name: string): GroupMark {
  const most = Math.max(bar?.value ?? 0, ...series.flatMap(({ points }) => points.map(({ y }) => y)));
  const texts = Object.fromEntries(x.labels.map(({ value, text }) => [value, text]));
  return {
    type: "group",
    encode: { enter: { width: { value: WIDTH }, height: { value: HEIGHT } } },
    scales: [
      { name: "y", type: "linear", domain: [0, most * 1.08], range: [HEIGHT, 0], nice: true, zero: true },
    ],
    data: series.map(({ points }, i) => ({
      name: `${name}-${i}`,
      values: points.map((each) => ({ ...each })),
    })),
    axes: [
      {
        ...{ scale: "x", orient: "bottom", title: x.title },
        values: x.labels.map(({ value }) => value),
        labelOverlap: "greedy",
        encode: { labels: { update: { text: { signal: `(${JSON.stringify(texts)})[datum.value]` } } } },
      },
      { scale: "y", orient: "left", grid: true, gridScale: "x", tickCount: 6, domain: false },
    ],
    marks: [
      titleMark(title),
      ...(bar ? barMarks(bar) : []),
      ...series.flatMap(({ label, colour, points }, i) => [
        ...seriesMarks(`${name}-${i}`, colour),
        labelMark(label, colour, points.at(-1)),
      ]),
    ],
  };
}

/** A title of the group's own would be as high as its axis lets it. */
const titleMark = (title: string): Mark => ({
  type: "text",
  encode: {
    enter: { y: { value: -14 }, text: { value: title }, fill: { value: INK.text }, fontSize: { value: 12 } },
  },
});

const seriesMarks = (data: string, colour: string): Mark[] => {
  const place = { x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" } };
  return [
    {
      type: "line",
      from: { data },
      encode: { enter: { ...place, stroke: { value: colour }, strokeWidth: { value: 2 } } },
    },
    {
      type: "symbol",
      from: { data },
      encode: { enter: { ...place, fill: { value: colour }, size: { value: 34 } } },
    },
  ];
};

/** At the line's end, in its colour: no legend to look up. */
const labelMark = (label: string, colour: string, last: { x: number; y: number } | undefined): Mark => ({
  type: "text",
  encode: {
    enter: {
      x: { scale: "x", value: last?.x ?? 0, offset: 6 },
      y: { scale: "y", value: last?.y ?? 0 },
      text: { value: label },
      fill: { value: colour },
      baseline: { value: "middle" },
      fontSize: { value: 11 },
    },
  },
});

const barMarks = ({ value, label }: { value: number; label: string }): Mark[] => [
  {
    type: "rule",
    encode: {
      enter: {
        x: { value: 0 },
        x2: { value: WIDTH },
        y: { scale: "y", value },
        stroke: { value: INK.quiet },
        strokeDash: { value: [4, 3] },
      },
    },
  },
  {
    type: "text",
    encode: {
      enter: {
        x: { value: 4 },
        y: { scale: "y", value, offset: -5 },
        text: { value: label },
        fill: { value: INK.quiet },
        fontSize: { value: 10 },
      },
    },
  },
];
