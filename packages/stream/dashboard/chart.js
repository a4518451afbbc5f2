import { byId, say } from "./elements.js";
import { duration, rate } from "./figures.js";

/** @import { Rates } from "../src/dashboard/state.js" */

/** As many as the server keeps. */
const MAX_POINTS = 600;

/** Over so much time the chart goes, in milliseconds. */
const SPAN_MS = 300_000;

/** Nobody looked in between: there is no line. */
const GAP_MS = 3000;

/** What moves slower than that makes no mountain. */
const LEAST = 1024 ** 2;

const [TOP, BOTTOM] = [14, 20];

/** @type {Rates[]} */
let points = [];

/** @param {readonly Rates[]} rates */
export function addRates(rates) {
  points = [...points, ...rates].slice(-MAX_POINTS);
}

export function forgetRates() {
  points = [];
}

/** Draws what is known of the last minutes. @param {number} now On the server's clock. */
export function drawChart(now) {
  const chart = byId("chart");
  const { width, height } = chart.getBoundingClientRect();
  if (width === 0) return;
  points = points.filter(({ at }) => now - at <= SPAN_MS);
  const most = niceAbove(Math.max(LEAST, ...points.flatMap((point) => [point.out, point.in])));
  // What is there fills the width: an hour's axis would make a line of the first minute.
  const span = Math.min(SPAN_MS, Math.max(60_000, now - (points[0]?.at ?? now)));
  const floor = height - BOTTOM;
  /** @param {number} at */
  const x = (at) => width * (1 - (now - at) / span);
  /** @param {number} value */
  const y = (value) => floor - (floor - TOP) * (value / most);
  const shapes = [];
  for (const part of [0, 0.5, 1]) {
    const line = shape("line", { x1: 0, x2: width, y1: y(most * part), y2: y(most * part) });
    shapes.push(line);
    if (part > 0) shapes.push(label(rate(most * part), { x: 0, y: y(most * part) - 4 }));
  }
  shapes.push(label(`${duration(span / 1000)} ago`, { x: 0, y: height - 5 }));
  shapes.push(label("now", { x: width, y: height - 5, "text-anchor": "end" }));
  for (const way of /** @type {const} */ (["in", "out"])) {
    for (const run of runs()) {
      const line = run.map((point) => `${x(point.at).toFixed(1)} ${y(point[way]).toFixed(1)}`).join(" L ");
      const [first, last] = [run[0], run.at(-1)];
      if (!first || !last) continue;
      const area = `M ${x(first.at).toFixed(1)} ${floor} L ${line} L ${x(last.at).toFixed(1)} ${floor} Z`;
      shapes.push(
        shape("path", { d: area, class: `area ${way}` }),
        shape("path", { d: `M ${line}`, class: way }),
      );
    }
  }
  chart.replaceChildren(...shapes);
  const last = points.at(-1);
  if (last)
    say(
      byId("chart-text"),
      `Over the last ${duration(span / 1000)}; at most ${rate(Math.max(...points.map((point) => Math.max(point.out, point.in))))}.`,
    );
}

/** Points between which somebody looked all the time. */
function runs() {
  /** @type {Rates[][]} */
  const found = [];
  for (const point of points) {
    const run = found.at(-1);
    if (run && point.at - (run.at(-1)?.at ?? 0) <= GAP_MS) run.push(point);
    else found.push([point]);
  }
  return found;
}

/** The next round number of bytes. @param {number} value */
function niceAbove(value) {
  const step = 1024 ** Math.floor(Math.log2(value) / 10);
  return step * ([1, 2, 4, 8, 16, 32, 64, 128, 256, 512].find((factor) => factor * step >= value) ?? 1024);
}

/** @param {string} text @param {Record<string, string | number>} attributes */
function label(text, attributes) {
  const made = shape("text", attributes);
  made.textContent = text;
  return made;
}

/** @param {string} tag @param {Record<string, string | number>} attributes */
function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
