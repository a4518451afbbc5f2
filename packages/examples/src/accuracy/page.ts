import { readFile, writeFile } from "node:fs/promises";

const END = "<!-- end of what was written -->";

/** Puts what a command wrote between its marks on a page, in the place of what was there. @returns whether it has them. */
export async function writeInto(path: string, command: string, text: string): Promise<boolean> {
  const page = await readFile(path, "utf8");
  const mark = `<!-- written by npm run ${command} -->`;
  const begin = page.indexOf(mark);
  const end = page.indexOf(END, begin);
  if (begin < 0 || end < 0) return false;
  await writeFile(path, `${page.slice(0, begin + mark.length)}\n\n${text}\n\n${page.slice(end)}`);
  return true;
}
