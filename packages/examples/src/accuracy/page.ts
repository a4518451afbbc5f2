import { readFile, writeFile } from "node:fs/promises";

const BEGIN = "<!-- written by npm run bench:accuracy -->";
const END = "<!-- end of what was written -->";

/** Puts text between the marks of a page, in the place of what was there. */
export async function writeInto(path: string, text: string): Promise<void> {
  const page = await readFile(path, "utf8");
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${path} has no place for it, between ${BEGIN} and ${END}`);
  await writeFile(path, `${page.slice(0, begin + BEGIN.length)}\n\n${text}\n\n${page.slice(end)}`);
}
