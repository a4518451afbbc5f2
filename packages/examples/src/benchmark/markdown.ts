/** A table; all columns but the first are numbers, unless it is said that they are text. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: "numbers" | "text" = "numbers",
): string {
  const rule = head.map((_, column) => (column && columns === "numbers" ? "---:" : "---"));
  return [head, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
