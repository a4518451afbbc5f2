/** How a column's cells stand: words begin together, numbers end together. */
export type Alignment = "left" | "right";

/** Lines whose cells stand below one another. */
export function columns(
  rows: readonly (readonly string[])[],
  alignment: readonly Alignment[] = [],
): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => void (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const placed = (cell: string, i: number): string =>
    alignment[i] === "right" ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!);
  return rows.map((row) => row.map(placed).join("  ").trimEnd());
}
