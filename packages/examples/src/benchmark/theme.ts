import { parse, type Spec, View } from "vega";

/**
 * Colours that the plots of docs/benchmarks are drawn in. The report gives each its counterpart on a dark ground, in the
 * SVG itself: use no others. Series are Okabe and Ito's, which colour-blind readers tell apart.
 */
export const INK = {
  ground: "#ffffff",
  text: "#1f2328",
  quiet: "#656d76",
  grid: "#e4e7ea",
  /** Ours. */
  blue: "#0072b2",
  orange: "#d55e00",
  green: "#009e73",
  purple: "#a6518a",
  yellow: "#b58900",
  /** What ours is beside. */
  grey: "#8c959f",
} as const;

const DARK: Record<keyof typeof INK, string> = {
  ground: "#0d1117",
  text: "#e6edf3",
  quiet: "#9198a1",
  grid: "#2a313c",
  blue: "#56b4e9",
  orange: "#f0883e",
  green: "#2fbf9a",
  purple: "#d699c3",
  yellow: "#e3c04b",
  grey: "#7d8590",
};

/** In this order, where series have no colour of their own. */
export const SERIES = [INK.blue, INK.orange, INK.green, INK.purple, INK.yellow, INK.grey] as const;

const CONFIG = {
  background: INK.ground,
  style: {
    "guide-label": { fill: INK.text, fontSize: 11 },
    "guide-title": { fill: INK.text, fontSize: 12 },
    "group-title": { fill: INK.text, fontSize: 14 },
    "group-subtitle": { fill: INK.quiet, fontSize: 11 },
  },
  axis: { gridColor: INK.grid, domainColor: INK.quiet, tickColor: INK.quiet, titleFontWeight: "normal" },
  title: { anchor: "start", frame: "group", offset: 12 },
} as const;

/** Draws a Vega specification as SVG that is readable on a light ground and on a dark one. */
export async function drawSvg(spec: Spec): Promise<string> {
  const view = new View(parse({ padding: 14, ...spec }, CONFIG as never), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg.replace(/^(<svg[^>]*>)/, `$1${DARK_STYLE}`)}\n`;
}

/** Presentation attributes give way to a rule: no second file is needed, and the ground goes along. */
const DARK_STYLE = `<style>@media (prefers-color-scheme: dark){${(Object.keys(INK) as (keyof typeof INK)[])
  .flatMap((ink) => ["fill", "stroke"].map((of) => `[${of}="${INK[ink]}"]{${of}:${DARK[ink]}}`))
  .join("")}}</style>`;
