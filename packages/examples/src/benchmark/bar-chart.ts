import type { Mark, Spec } from "vega";
import { INK } from "./theme.js";

export interface BarChart {
  readonly title: string;
  readonly subtitle: string;
  /** With its unit. */
  readonly axis: string;
  readonly bars: readonly Bar[];
  /** A value to hold the others against. */
  readonly rule?: { readonly value: number; readonly label: string };
}

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** What stands at its end. */
  readonly text: string;
  readonly colour: string;
}

const WIDTH = 460;
const STEP = 23;

/** Bars that lie, in the order given, each with its name before it and its value behind it. */
export function barChart({ title, subtitle, axis, bars, rule }: BarChart): Spec {
  const rules = rule ? [rule] : [];
  return {
    $schema: "https://vega.github.io/schema/vega/v5.json",
    width: WIDTH,
    height: STEP * bars.length,
    title: { text: title, subtitle, subtitlePadding: 4 },
    data: [
      { name: "bars", values: bars.map((bar) => ({ ...bar })) },
      { name: "rules", values: rules.map((each) => ({ ...each })) },
    ],
    scales: [
      {
        name: "x",
        type: "linear",
        domain: { data: "bars", field: "value" },
        range: "width",
        zero: true,
        nice: true,
      },
      { name: "y", type: "band", domain: bars.map(({ label }) => label), range: "height", padding: 0.22 },
    ],
    axes: [
      { scale: "x", orient: "bottom", title: axis, grid: true, tickCount: 6, domain: false },
      { scale: "y", orient: "left", ticks: false, labelLimit: 240, labelPadding: 6 },
    ],
    marks: [
      {
        type: "rect",
        from: { data: "bars" },
        encode: {
          enter: {
            x: { scale: "x", value: 0 },
            x2: { scale: "x", field: "value" },
            y: { scale: "y", field: "label" },
            height: { scale: "y", band: 1 },
            fill: { field: "colour" },
          },
        },
      },
      {
        type: "rule",
        from: { data: "rules" },
        encode: {
          enter: {
            x: { scale: "x", field: "value" },
            y: { value: -4 },
            y2: { signal: "height" },
            stroke: { value: INK.text },
            strokeDash: { value: [4, 3] },
          },
        },
      },
      {
        type: "text",
        from: { data: "rules" },
        encode: {
          enter: {
            x: { scale: "x", field: "value" },
            y: { value: -7 },
            text: { field: "label" },
            align: { value: "center" },
            fill: { value: INK.quiet },
            fontSize: { value: 11 },
          },
        },
      },
      // Behind its text, a rim of the ground: the rule would cross it out.
      valueMark({ stroke: { value: INK.ground }, strokeWidth: { value: 5 } }),
      valueMark({ fill: { value: INK.text } }),
    ],
  };
}

const valueMark = (paint: object): Mark => ({
  type: "text",
  from: { data: "bars" },
  encode: {
    enter: {
      x: { scale: "x", field: "value", offset: 5 },
      y: { scale: "y", field: "label", band: 0.5 },
      text: { field: "text" },
      baseline: { value: "middle" },
      fontSize: { value: 11 },
      ...paint,
    },
  },
});
