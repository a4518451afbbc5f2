import { TensorwireError } from "@tensorwire/core";
import type { Mark, Spec } from "vega";
import { shortSpecText } from "../spec-text.js";
import type { Evaluation } from "./evaluate.js";

type Vega = typeof import("vega");

/** Draws plots. */
export interface Plotter {
  /** Error against bits a weight, as SVG: a point for each codec. */
  draw(evaluation: Evaluation): Promise<string>;
}

/**
 * Loads `vega`, which is no dependency: few who stream models draw plots of codecs.
 * @throws TensorwireError `INVALID_ARGUMENT` where it is not installed.
 * @example
 * import { writeFile } from "node:fs/promises";
 *
 * const plotter = await openPlotter();
 * await writeFile("tradeoff.svg", await plotter.draw(await evaluateModel("model.safetensors", { codecs: ["blockwise8", "normfloat4"] })));
 */
export async function openPlotter(): Promise<Plotter> {
  let vega: Vega;
  try {
    vega = await import("vega");
  } catch (cause) {
    throw new TensorwireError("INVALID_ARGUMENT", "a plot needs the package vega: npm install vega@5", {
      cause,
    });
  }
  return {
    async draw(evaluation) {
      const view = new vega.View(vega.parse(plotSpec(evaluation)), { renderer: "none" });
      const svg = await view.toSVG();
      view.finalize();
      return `${svg}\n`;
    },
  };
}

const WIDTH = 640;
const HEIGHT = 400;
/** Okabe and Ito's colours, which colour-blind readers tell apart. */
const LOSSY = "#0072b2";
const EXACT = "#009e73";

/** Of the labels, in pixels: a line, a character, and how far from its point a label begins. */
const LINE = 12;
const CHARACTER = 6;
const GAP = 12;

/** A codec's place in the plot, in pixels, and that of its label. */
interface Point {
  readonly label: string;
  readonly exact: boolean;
  readonly x: number;
  readonly y: number;
  readonly labelX: number;
  labelY: number;
}

/** The plot's scales: bits from 0 to `most`, and errors from one power of ten to another. */
interface Bounds {
  readonly bits: number;
  readonly least: number;
  readonly most: number;
}

function boundsOf({ codecs }: Evaluation): Bounds {
  const errors = codecs
    .map(({ error }) => error.relativeL2)
    .filter((error) => error > 0 && Number.isFinite(error));
  // A logarithm has no zero: what is exact stands on the axis, a decade below the least error.
  const least = 10 ** (Math.floor(Math.log10(Math.min(1, ...errors))) - 1);
  return {
    bits: 4 * Math.ceil(Math.max(4, ...codecs.map(({ bitsPerWeight }) => bitsPerWeight)) / 4),
    least,
    most: 10 ** Math.ceil(Math.log10(Math.max(100 * least, ...errors))),
  };
}

function pointsOf({ codecs }: Evaluation, { bits, least, most }: Bounds): Point[] {
  const points = codecs.map(({ codec, bitsPerWeight, error }) => {
    const height =
      Math.log(Math.min(most, Math.max(least, error.relativeL2)) / least) / Math.log(most / least);
    const x = (WIDTH * bitsPerWeight) / bits;
    const y = HEIGHT * (1 - height);
    return { label: shortSpecText(codec), exact: error.relativeL2 === 0, x, y, labelX: x + GAP, labelY: y };
  });
  return spread(points);
}

/** Moves labels up until none lies on another: vega could do it only with a canvas, which Node has not. */
function spread(points: readonly Point[]): Point[] {
  const placed: Point[] = [];
  for (const point of points.toSorted((a, b) => b.y - a.y)) {
    const covers = ({ label, labelX, labelY }: Point): boolean =>
      Math.abs(labelY - point.labelY) < LINE &&
      labelX < point.labelX + CHARACTER * point.label.length &&
      point.labelX < labelX + CHARACTER * label.length;
    for (let other = placed.find(covers); other; other = placed.find(covers))
      point.labelY = other.labelY - LINE;
    placed.push(point);
  }
  return placed;
}

function plotSpec(evaluation: Evaluation): Spec {
  const bounds = boundsOf(evaluation);
  return {
    $schema: "https://vega.github.io/schema/vega/v5.json",
    background: "white",
    // Room for the labels of the widest codecs.
    padding: { left: 12, top: 12, bottom: 12, right: 60 },
    autosize: "pad",
    width: WIDTH,
    height: HEIGHT,
    config: { style: { "guide-label": { fontSize: 11 }, "guide-title": { fontSize: 12 } } },
    title: { text: "What a codec takes, and what it costs", anchor: "start", fontSize: 14, offset: 12 },
    data: [{ name: "codecs", values: pointsOf(evaluation, bounds) }],
    scales: [
      { name: "x", type: "linear", domain: [0, bounds.bits], range: "width" },
      { name: "y", type: "log", domain: [bounds.least, bounds.most], range: "height" },
    ],
    axes: [
      {
        scale: "x",
        orient: "bottom",
        title: "bits a weight",
        grid: true,
        gridColor: "#eee",
        tickCount: bounds.bits / 4,
      },
      {
        scale: "y",
        orient: "left",
        title: "relative L2 error (on the axis: exact)",
        grid: true,
        gridColor: "#eee",
        format: ".0e",
        tickCount: 6,
      },
    ],
    marks,
  };
}

const marks: Mark[] = [
  {
    type: "rule",
    from: { data: "codecs" },
    encode: {
      enter: {
        x: { field: "x" },
        y: { field: "y" },
        x2: { field: "labelX", offset: -3 },
        y2: { field: "labelY" },
        stroke: { value: "#bbb" },
      },
    },
  },
  {
    type: "symbol",
    from: { data: "codecs" },
    encode: {
      enter: {
        x: { field: "x" },
        y: { field: "y" },
        fill: [{ test: "datum.exact", value: EXACT }, { value: LOSSY }],
        size: { value: 50 },
      },
    },
  },
  {
    type: "text",
    from: { data: "codecs" },
    encode: {
      enter: {
        x: { field: "labelX" },
        y: { field: "labelY" },
        text: { field: "label" },
        baseline: { value: "middle" },
        fontSize: { value: 10 },
        fill: { value: "#333" },
      },
    },
  },
];
