// Runs a program that needs a GPU: on this machine's, or, where there is none (it ends with 10), on a driver in software.
import { spawnSync } from "node:child_process";
import { softwareGpuEnvironment } from "./software-gpu.mjs";

const NO_DEVICE = 10;
const run = (env) =>
  spawnSync(process.execPath, process.argv.slice(2), { stdio: "inherit", env }).status ?? 1;

let status = run(process.env);
const software = status === NO_DEVICE ? softwareGpuEnvironment() : undefined;
if (software !== undefined) {
  console.error("on a driver in software:\n");
  status = run({ ...process.env, ...software });
}
process.exit(status);
