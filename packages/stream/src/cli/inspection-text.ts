import { columns } from "./columns.js";
import type { InspectedTensor, Inspection } from "./inspect.js";
import { printable } from "./printable.js";
import { counted } from "./report.js";
import { formatSize } from "./sizes.js";
import { specText } from "../spec-text.js";

/** An inspection for people: a line for each tensor, in columns, then the totals. */
export function inspectionText(inspection: Inspection): string {
  const { tensors, metadata, totals } = inspection;
  const lines = columns(tensors.map(row));
  const notes = Object.entries(metadata).map(
    ([key, value]) => `  ${printable(key)}: ${printable(shortened(value))}`,
  );
  if (notes.length) lines.push("metadata:", ...notes);
  const { payloadBytes, packedBytes } = totals;
  const payload =
    payloadBytes === undefined
      ? ""
      : [`, ${formatSize(payloadBytes)} encoded`, ...packedText(payloadBytes, packedBytes)].join(", ");
  lines.push(
    `${counted(totals.tensors, "tensor")}, ${counted(totals.elements, "element")}, ${formatSize(totals.bytes)}${payload}`,
  );
  if (inspection.modelDigest) lines.push(`model digest ${inspection.modelDigest}`);
  if (inspection.artifact) lines.push(artifactLine(inspection.artifact));
  return lines.join("\n");
}

function row({ name, dtype, shape, bytes, codec, payloadBytes, packedBytes }: InspectedTensor): string[] {
  const cells = [printable(name), dtype, `[${shape.join(", ")}]`, formatSize(bytes)];
  if (!codec || payloadBytes === undefined) return cells;
  return [...cells, specText(codec), formatSize(payloadBytes), ...packedText(payloadBytes, packedBytes)];
}

function packedText(payloadBytes: number, packedBytes = payloadBytes): string[] {
  return packedBytes < payloadBytes ? [`${formatSize(packedBytes)} packed`] : [];
}

function artifactLine(artifact: NonNullable<Inspection["artifact"]>): string {
  const { fileBytes, software, chunkBytes, chunks, fallbackChunks, packedChunks, clamped, digest, sha256 } =
    artifact;
  const parts = [
    `artifact of ${formatSize(fileBytes)} by ${printable(software)}`,
    `${counted(chunks, "chunk")} of at most ${formatSize(chunkBytes)}`,
    ...(fallbackChunks ? [`${counted(fallbackChunks, "chunk")} exact`] : []),
    ...(packedChunks ? [`${counted(packedChunks, "chunk")} packed`] : []),
    ...(clamped ? [`${counted(clamped, "value")} clamped`] : []),
    `digest ${digest}`,
    ...(sha256 ? [`sha256:${sha256}`] : []),
  ];
  return parts.join("; ");
}

const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 197)}...` : text);
