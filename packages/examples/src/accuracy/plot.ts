import { type Mark, parse, type Spec, View } from "vega";
import { INK } from "../benchmark/theme.js";
import { type Arrangement, labelOf } from "./arrangement.js";
import type { Outcome } from "./trials.js";
import { mean } from "./verdict.js";

const COLOURS: Readonly<Record<string, string>> = {
  none: INK.text,
  float16: INK.green,
  blockwise8: INK.blue,
  normfloat4: INK.orange,
};

const WIDTH = 560;
const HEIGHT = 340;

const dashOf = ({ feedback, updates, base }: Arrangement): number[] => {
  if (updates === "model") return [1, 3];
  if (base === "published") return [6, 3, 1, 3];
  return feedback ? [6, 3] : [];
};

/** Accuracy after each round as SVG: a curve for each arrangement, the mean of its seeds. */
export async function accuracyPlot(outcomes: readonly Outcome[]): Promise<string> {
  const view = new View(parse(accuracySpec(outcomes)), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

/** The same as Vega's specification. */
export function accuracySpec(outcomes: readonly Outcome[]): Spec {
  const curves = outcomes.map(({ arrangement, results }) => ({
    arrangement,
    points: results[0]!.accuracy.map((_, i) => ({
      round: i + 1,
      percent: Number((100 * mean(results.map(({ accuracy }) => accuracy[i]!))).toFixed(3)),
    })),
  }));
  const all = curves.flatMap(({ points }) => points);
  const percents = all.map(({ percent }) => percent);
  const [least, most] = [5 * Math.floor(Math.min(...percents) / 5), Math.min(100, Math.max(...percents) + 1)];
  const labels = outcomes.map(({ arrangement }) => labelOf(arrangement));
  const colours = outcomes.map(({ arrangement }) => COLOURS[arrangement.codec] ?? INK.grey);
  return {
    $schema: "https://vega.github.io/schema/vega/v5.json",
    background: INK.ground,
    padding: 12,
    width: WIDTH,
    height: HEIGHT,
    config: { style: { "guide-label": { fontSize: 11 }, "guide-title": { fontSize: 12 } } },
    title: {
      text: "Digits of the test that the server's model recognizes, after each round",
      anchor: "start",
      fontSize: 14,
      offset: 12,
    },
    scales: [
      {
        name: "x",
        type: "linear",
        domain: [1, Math.max(...all.map(({ round }) => round))],
        range: "width",
        zero: false,
      },
      { name: "y", type: "linear", domain: [least, most], range: "height", zero: false },
      { name: "colour", type: "ordinal", domain: labels, range: colours },
      {
        name: "dash",
        type: "ordinal",
        domain: labels,
        range: outcomes.map(({ arrangement }) => dashOf(arrangement)) as never,
      },
    ],
    axes: [
      { scale: "x", orient: "bottom", title: "round", format: "d", tickMinStep: 1 },
      { scale: "y", orient: "left", title: "accuracy, percent", grid: true, gridColor: INK.grid },
    ],
    legends: [
      {
        stroke: "colour",
        strokeDash: "dash",
        symbolType: "stroke",
        orient: "bottom-right",
        symbolSize: 400,
        symbolStrokeWidth: 2,
        labelLimit: 0,
        fillColor: INK.ground,
        padding: 6,
      },
    ],
    data: curves.map(({ points }, i) => ({ name: `curve-${i}`, values: points })),
    marks: curves.map(({ arrangement }, i) => curve(`curve-${i}`, labels[i]!, arrangement)),
  };
}

const curve = (data: string, label: string, arrangement: Arrangement): Mark => ({
  type: "line",
  from: { data },
  encode: {
    enter: {
      x: { scale: "x", field: "round" },
      y: { scale: "y", field: "percent" },
      stroke: { scale: "colour", value: label },
      strokeWidth: { value: 2 },
      strokeDash: { value: dashOf(arrangement) },
    },
  },
});
