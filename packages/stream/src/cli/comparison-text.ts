import type { Comparison, TensorComparison } from "../fidelity/compare.js";
import { type Alignment, columns } from "./columns.js";
import { ERROR_HEADINGS, errorCells } from "./error-cells.js";
import { printable } from "./printable.js";
import { counted } from "./report.js";
import { formatSize } from "./sizes.js";

const HEADINGS = ["tensor", "dtype", "shape", "bits", ...ERROR_HEADINGS];
const ALIGNMENT: Alignment[] = ["left", "left", "left", ...Array<Alignment>(6).fill("right")];

/** A comparison for people: a line for each tensor, in columns, then the totals. */
export function comparisonText({ tensors, total }: Comparison): string {
  const { a, b, differing, error, changed } = total;
  const rows = [HEADINGS, ...tensors.map(row)];
  if (changed.tensors > 1) {
    const floats = tensors.filter((tensor) => tensor.error).length;
    rows.push([`all ${floats} float tensors`, "", "", "", ...errorCells(error)]);
    if (changed.tensors < floats) {
      rows.push([`the ${changed.tensors} that differ`, "", "", "", ...errorCells(changed)]);
    }
  }
  return [
    ...columns(rows, ALIGNMENT),
    `${counted(tensors.length, "tensor")}, ${counted(differing, "element")} differing; ` +
      `${formatSize(a.bytes)} against ${formatSize(b.bytes)}, ` +
      `${bits(a.bitsPerWeight)} against ${bits(b.bitsPerWeight)} bits a weight`,
  ].join("\n");
}

function row({ name, shape, a, b, differing, error }: TensorComparison): string[] {
  const dtype = a.dtype === b.dtype ? a.dtype : `${a.dtype} > ${b.dtype}`;
  const cells = error ? errorCells(error) : [differing ? `${differing} differ` : "same"];
  const stored = [a, b].map(({ bitsPerWeight }) => bits(bitsPerWeight));
  const width = stored[0] === stored[1] ? stored[0]! : stored.join(" > ");
  return [printable(name), dtype, `[${shape.join(", ")}]`, width, ...cells];
}

/** Bits a weight: 32, 4.5, 4.127. */
export function bits(count: number): string {
  return String(Number(count.toFixed(3)));
}
