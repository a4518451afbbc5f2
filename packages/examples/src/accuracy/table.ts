import { EXACT } from "./arrangement.js";
import type { Outcome } from "./trials.js";
import { lastAccuracy } from "./verdict.js";

const HEAD = [
  "codec",
  "clients send",
  "added to",
  "error feedback",
  "accuracy, %",
  "of each seed",
  "from `none`",
  "model, kB",
  "update, kB",
];

/** As a table of a page: what each arrangement came to, and what travelled for it. */
export function accuracyTable(outcomes: readonly Outcome[]): string {
  const exact = outcomes.find(({ arrangement }) => arrangement === EXACT);
  const lines = outcomes.map((outcome) => {
    const { codec, feedback, updates, base } = outcome.arrangement;
    const { modelBytes, updateBytes } = outcome.results[0]!;
    const points = exact ? lastAccuracy(outcome) - lastAccuracy(exact) : 0;
    return [
      `\`${codec}\``,
      updates === "model" ? "whole models" : "deltas",
      updates === "model" ? "–" : base === "own" ? "its own model" : "the published one",
      feedback ? "yes" : "no",
      lastAccuracy(outcome).toFixed(2),
      outcome.results.map(({ accuracy }) => (100 * accuracy.at(-1)!).toFixed(2)).join(", "),
      `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(2)}`,
      (modelBytes / 1e3).toFixed(1),
      (updateBytes / 1e3).toFixed(1),
    ];
  });
  return [HEAD, HEAD.map((_, column) => (column < 4 ? "---" : "---:")), ...lines]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");
}
