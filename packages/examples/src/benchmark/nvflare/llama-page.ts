import { table } from "../markdown.js";
import type { RenderedSection } from "../section.js";
import { type DictFigures, dictFigures, type LlamaRow, type NvflareLlamaData, TAKEN_WORDS } from "./data.js";
import { PUBLISHED } from "./published.js";

const PUBLISHED_HEAD = ["Llama-3.2-1B", "peak, MB", "the callers' own", "of its", "seconds", "times as fast"];

export function renderLlama(data: NvflareLlamaData): RenderedSection {
  const rows = (["regular", "container", "file"] as const).map((way) => {
    const { megabytes, seconds } = PUBLISHED[way];
    return [`NVFlare's published: ${way}`, megabytes.toLocaleString("en"), "", "", String(seconds), ""];
  });
  const mine = data.rows.filter(({ way }) => way !== "copy").flatMap(llamaCells);
  const copy = bestCopy(data.rows);
  const file = data.rows.find(({ way }) => way === "file");
  const figures = file && dictFigures(file);
  const beside =
    copy && figures
      ? ` The machines differ, so the one figure to hold on to is beside the best bare copy of the same file on this one (${copy.name}): ${copy.figures.wholeSeconds.toFixed(1)} s, of which ours from file to file takes ${(figures.wholeSeconds / copy.figures.wholeSeconds).toFixed(2)} times as much.`
      : "";
  const texts = [
    "NVFlare publishes what streaming Llama-3.2-1B took, f32, 5.7 GiB, **on a machine of its own, another than ours**: peak memory and time." +
      " Beside it is ours with `normfloat4` for the same shapes, here: the peaks of both processes added up, and the time from the start of both to" +
      ` the exit of both. In containers the sending caller makes each tensor in one buffer as large as the largest, and the receiving one` +
      ` borrows as much, or nothing where it takes chunks: *the callers' own*, part of the peak.${beside}`,
    table(PUBLISHED_HEAD, [...rows, ...mine]),
  ];
  return { markdown: texts.join("\n\n"), plots: [] };
}

function llamaCells(row: LlamaRow): string[][] {
  const figures = dictFigures(row);
  if (!figures || row.way === "copy") return [];
  const published = PUBLISHED[row.way];
  const [run] = row.runs;
  const callers = (run?.sender.callerBytes ?? 0) + (run?.receiver.callerBytes ?? 0);
  const megabytes = (figures.sender.peakBytes + figures.receiver.peakBytes) / 1e6;
  const label = row.taken ? `ours, container, ${TAKEN_WORDS[row.taken]}` : "ours, file";
  return [
    [
      label,
      megabytes.toFixed(0),
      callers ? (callers / 1e6).toFixed(0) : "–",
      `1/${(published.megabytes / megabytes).toFixed(0)}`,
      figures.wholeSeconds.toFixed(1),
      (published.seconds / figures.wholeSeconds).toFixed(1),
    ],
  ];
}

function bestCopy(rows: readonly LlamaRow[]): { name: string; figures: DictFigures } | undefined {
  return rows
    .filter(({ way }) => way === "copy")
    .flatMap(({ name, ...row }) => {
      const figures = dictFigures({ name, ...row });
      return figures ? [{ name, figures }] : [];
    })
    .sort((a, b) => a.figures.wholeSeconds - b.figures.wholeSeconds)[0];
}
