import { readFileSync } from "node:fs";
import { expect } from "vitest";

/** A page of docs/. */
export const page = (name: string) => readFileSync(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

/** The page from a heading to the next one of its level or a higher one. */
export function section(text: string, heading: string): string {
  const at = text.indexOf(`\n${heading}\n`);
  expect(at, `the page has ${heading}`).toBeGreaterThanOrEqual(0);
  const level = /^#+/.exec(heading)![0].length;
  const body = text.slice(at + heading.length + 2);
  // In fenced blocks a # begins a comment.
  const prose = body.replace(/^```.*?^```$/gms, (block) => block.replaceAll("#", "-"));
  const next = prose.search(new RegExp(`^#{1,${level}} `, "m"));
  return next < 0 ? body : body.slice(0, next);
}

/** Cells of the tables' rows, headings left out, without the backticks around them. */
export function rows(text: string): string[][] {
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  const cells = lines.map((line) =>
    line
      .slice(1, -1)
      .split("|")
      .map((cell) => cell.trim().replace(/^`([^`]*)`$/, "$1")),
  );
  return cells.filter((_, i) => !isRule(lines[i]!) && !(lines[i + 1] && isRule(lines[i + 1]!)));
}

const isRule = (line: string): boolean => /^\|[\s|:-]+\|$/.test(line);

/** The first fenced block with this info string; what follows a # is a comment. */
export function fenced(text: string, info: string): string {
  const block = new RegExp(`^\`\`\`${info}\n(.*?)^\`\`\`$`, "ms").exec(text)?.[1];
  expect(block, `the page has a block ${info}`).toBeDefined();
  return block!.replace(/#.*$/gm, "");
}

export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
/** Hexadecimal digits, without what separates them. */
export const hexOf = (text: string) => text.replace(/\s/g, "");
