import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { machineText } from "./machine.js";
import { table } from "./markdown.js";
import { readRecord, type SectionRecord } from "./record.js";
import type { Plot, Section, Verdict } from "./section.js";
import { drawSvg } from "./theme.js";

/** Of records and plots, beside the page. */
export const FOLDER = "benchmarks";

const HEAD = `<!-- Written by \`npm run bench\` from the records in benchmarks/: change the program, not this page. -->

# Benchmarks

Two processes on one machine, from the start of both to the end of both: \`npm run bench\` writes this page. All of its figures
come from the records beside the plots, one file a section, each with its own machine and commit.
`;

const TAIL = `
## Run it

\`\`\`sh
npm run bench                              # everything; writes docs/benchmarks.md
npm run bench -- --only end-to-end,scaling # some sections; the others keep their last results
npm run bench -- --quick --out /tmp/glance # everything with small models, within a minute; nothing is judged
npm run bench -- --render                  # the page again, from the records
\`\`\`
`;

interface Part {
  readonly section: Section;
  readonly record: SectionRecord | undefined;
}

/** Writes the page and its plots from what was measured last. @returns the verdicts on it. */
export async function writeReport(out: string, sections: readonly Section[]): Promise<readonly Verdict[]> {
  const folder = join(out, FOLDER);
  await mkdir(folder, { recursive: true });
  const parts: Part[] = [];
  for (const section of sections) parts.push({ section, record: await readRecord(folder, section.id) });
  const verdicts = parts.flatMap(verdictsOf);
  const texts = [HEAD, summary(parts, verdicts)];
  for (const part of parts) {
    const { markdown, plots } = rendered(part);
    for (const { name, spec } of plots) await writeFile(join(folder, `${name}.svg`), await drawSvg(spec));
    texts.push(`\n## ${part.section.title}\n\n${markdown}\n`);
  }
  await writeFile(join(out, "benchmarks.md"), `${[...texts, TAIL].join("").trimEnd()}\n`);
  return verdicts;
}

/** What the README's place for it holds: of full runs only. */
export async function headline(out: string, sections: readonly Section[]): Promise<string> {
  const texts: string[] = [];
  for (const section of sections) {
    const record = await readRecord(join(out, FOLDER), section.id);
    if (record?.data && !record.quick && section.headline) texts.push(section.headline(record.data));
  }
  return texts.join("\n\n");
}

function verdictsOf({ section, record }: Part): readonly Verdict[] {
  if (!record?.data || record.quick) return [];
  return section.verdicts?.(record.data) ?? [];
}

const WORDS = { true: "PASS", false: "**FAIL**", undefined: "–" } as const;

function summary(parts: readonly Part[], verdicts: readonly Verdict[]): string {
  const quick = parts.filter(({ record }) => record?.quick).map(({ section }) => section.title);
  const notes = quick.length ? `\nFrom a quick run, which is not judged: ${quick.join("; ")}.\n` : "";
  if (!verdicts.length) return notes;
  return `${notes}\n${table(
    ["", "bar", "measured", ""],
    verdicts.map(({ what, bar, found, pass }) => [what, bar, found, WORDS[`${pass}`]]),
  )}\n`;
}

function rendered({ section, record }: Part): { markdown: string; plots: readonly Plot[] } {
  if (!record) return { markdown: `Not measured yet: \`npm run bench -- --only ${section.id}\`.`, plots: [] };
  const origin = originOf(record);
  if (!record.data) return { markdown: `${origin}\n\nFailed: ${record.failed}`, plots: [] };
  const { markdown, plots } = section.render(record.data);
  const skipped = record.skips.map(({ what, why }) => `- Not measured: ${what}: ${why}`).join("\n");
  const text = [origin, placed(markdown, plots), skipped].filter(Boolean).join("\n\n");
  return { markdown: text, plots };
}

function placed(markdown: string, plots: readonly Plot[]): string {
  return plots.reduce((text, { name, alt }) => {
    const picture = `![${alt}](${FOLDER}/${name}.svg)`;
    const place = `![](${name})`;
    return text.includes(place) ? text.replace(place, () => picture) : `${text}\n\n${picture}`;
  }, markdown);
}

function originOf({ measured, commit, machine, quick, seconds }: SectionRecord): string {
  const kind = quick ? "A quick run, of small models, once each: nothing to judge by" : "Measured";
  return `*${kind}: ${measured.slice(0, 10)}, commit ${commit}, in ${Math.round(seconds)} s. ${machineText(machine)}.*`;
}
