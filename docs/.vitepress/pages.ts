import { readFileSync } from "node:fs";

/** The pages of docs/ in the order of the sidebar: every page stands in one group, by its path without `.md`. */
export const PAGES: readonly { readonly group: string; readonly pages: readonly string[] }[] = [
  {
    group: "Start",
    pages: ["guides/getting-started", "guides/command-line", "guides/from-code", "guides/server"],
  },
  {
    group: "Guides",
    pages: [
      "guides/fidelity",
      "guides/artifacts",
      "guides/federated",
      "guides/reliability",
      "guides/security",
      "guides/gpu",
      "guides/observability",
      "agent",
      "guides/nvflare",
      "guides/flower",
      "guides/typescript-frameworks",
    ],
  },
  {
    group: "Measured",
    pages: ["benchmarks", "memory"],
  },
  {
    group: "Specifications",
    pages: ["codecs", "wire-format", "journal", "limits", "errors"],
  },
  {
    group: "Inside",
    pages: ["architecture"],
  },
];

/** A page's heading, which is its name in the sidebar. */
export function headingOf(page: string): string {
  const text = readFileSync(new URL(`../${page}.md`, import.meta.url), "utf8");
  const heading = /^# (.*)$/m.exec(text)?.[1];
  if (heading === undefined) throw new Error(`docs/${page}.md has no heading`);
  return heading;
}
