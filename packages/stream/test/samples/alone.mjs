// Runs one sample in a process of its own, with what it takes for granted. It ends when the sample has.
import { pathToFileURL } from "node:url";
import { grantedNames } from "./stage.mjs";

const { program, needs, folder, plain } = JSON.parse(process.argv[2]);
const granted = grantedNames({ plain, folder });
for (const name of needs) globalThis[name] = await granted[name]();
await import(pathToFileURL(program).href);
process.exit(0);
