import type { CodecEvaluation } from "../fidelity/codec-trial.js";
import type { Evaluation } from "../fidelity/evaluate.js";
import { shortSpecText } from "../spec-text.js";
import { type Alignment, columns } from "./columns.js";
import { bits } from "./comparison-text.js";
import { ERROR_HEADINGS, errorCells } from "./error-cells.js";
import { counted } from "./report.js";
import { formatSize } from "./sizes.js";

const HEADINGS = [
  "codec",
  "size",
  "of source",
  "bits",
  "packed",
  "scales",
  ...ERROR_HEADINGS,
  "encode",
  "decode",
];
const ALIGNMENT: Alignment[] = ["left", ...Array<Alignment>(HEADINGS.length - 1).fill("right")];

/** An evaluation for people: a line for each codec, in columns, then what it was measured on. */
export function evaluationText(evaluation: Evaluation): string {
  const { tensors, elements, bytes, chunkBytes, backend, codecs } = evaluation;
  return [
    ...columns([HEADINGS, ...codecs.map((codec) => row(codec, bytes))], ALIGNMENT),
    ...codecs.flatMap(notes),
    `${counted(tensors, "tensor")}, ${counted(elements, "element")}, ${formatSize(bytes)} in chunks of ` +
      `${formatSize(chunkBytes)}; ${backend} codecs, one job at a time`,
  ].join("\n");
}

function row(evaluation: CodecEvaluation, sourceBytes: number): string[] {
  const { codec, bytes, bitsPerWeight, packedBytes, scaleBytes, error } = evaluation;
  return [
    shortSpecText(codec),
    formatSize(bytes),
    sourceBytes ? `${((100 * bytes) / sourceBytes).toFixed(1)} %` : "",
    bits(bitsPerWeight),
    formatSize(packedBytes),
    scaleBytes ? formatSize(scaleBytes) : "",
    ...errorCells(error),
    rate(evaluation.encodeBytesPerSecond),
    rate(evaluation.decodeBytesPerSecond),
  ];
}

function rate(bytesPerSecond: number): string {
  return bytesPerSecond > 0 ? `${(bytesPerSecond / 1e9).toFixed(2)} GB/s` : "";
}

function notes({ codec, exactChunks, clamped }: CodecEvaluation): string[] {
  const lines: string[] = [];
  if (exactChunks) lines.push(`${shortSpecText(codec)}: ${counted(exactChunks, "chunk")} travelled exactly`);
  if (clamped) lines.push(`${shortSpecText(codec)}: ${counted(clamped, "value")} clamped to its range`);
  return lines;
}
