// Runs samples, one after the other, in a process of their own, each in a folder of its own with all files of the stage.
import { appendFileSync } from "node:fs";
import { cp, mkdir } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { format } from "node:util";
import { grantedNames } from "./stage.mjs";

const { samples, files, ports, outcomes } = JSON.parse(process.argv[2]);
const granted = grantedNames({ ...ports, folder: files });
const print = console.log;
const tell = (outcome) => appendFileSync(outcomes, `${JSON.stringify(outcome)}\n`);

async function run({ program, needs, folder }) {
  const lines = [];
  await mkdir(folder, { recursive: true });
  await cp(files, folder, { recursive: true });
  process.chdir(folder);
  for (const name of Object.keys(granted)) delete globalThis[name];
  for (const name of needs) globalThis[name] = await granted[name]();
  console.log = (...values) => lines.push(...format(...values).split("\n"));
  const silence = setTimeout(() => {
    tell({ stray: `${program} has not ended after 60 s` });
    process.exit(0);
  }, 60_000);
  await import(pathToFileURL(program).href);
  clearTimeout(silence);
  return lines;
}

process.on("unhandledRejection", (error) => tell({ stray: error.stack }));
for (const sample of samples) {
  const found = { where: sample.where, began: Date.now() };
  try {
    found.lines = await run(sample);
  } catch (error) {
    found.error = error.stack ?? String(error);
  } finally {
    console.log = print;
  }
  tell({ ...found, took: Date.now() - found.began });
}
process.exit(0);
