import { readFileSync } from "node:fs";
import { sayAddress, sayDone } from "../end-report.js";
import type { BareWay, Peer } from "./way.js";

const [name, role, path] = process.argv.slice(2) as [string, "send" | "receive", string];

const peer: Peer = { listening: sayAddress, address: () => readFileSync(0, "utf8") };
const { way } = (await import(`./${name}.js`)) as { way: BareWay };
await way[role](path, peer);
sayDone();
