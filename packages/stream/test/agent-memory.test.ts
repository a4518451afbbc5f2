import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents } from "./agent-fixture.js";
import { makeSparseModel } from "./cli-process.js";

hasAgents();

const MIB = 1024 * 1024;
const MODEL = 512 * MIB;

/** The most that a process has had in memory, where the system says so. */
async function peak({ process }: AgentProcess): Promise<number | undefined> {
  const text = await readFile(`/proc/${process.child.pid}/status`, "latin1").catch(() => "");
  const match = /^VmHWM:\s*(\d+) kB$/m.exec(text);
  return match ? Number(match[1]) * 1024 : undefined;
}

it("holds a window of a model, whichever way that comes and goes", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!]);
  await makeSparseModel(at("in.safetensors"), MODEL);
  const stream = createReadStream(at("in.safetensors"), { highWaterMark: MIB });
  const put = await agent.ask("PUT", "/v1/models/update?codec=normfloat4", { stream });
  const { ref } = await agent.over(put);
  expect(await home.fetch(ref)).toMatchObject({ state: "done", sourceBytes: MODEL });
  for (const process of [home, agent]) {
    const bytes = await peak(process);
    if (bytes === undefined) return console.log("SKIPPED: needs /proc, to see what a process has in memory");
    // A process of Node with this library is some 100 MiB; the window is 32 MiB.
    expect(bytes / MIB).toBeLessThan(240);
  }
  const { memory } = await home.status();
  expect(memory.anonBytes).toBeLessThan(memory.rssBytes);
});

it("holds no window for each of those that come at once, but what all of them may have", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!, "--memory", "1G"]);
  await makeSparseModel(agent.exchange("in.safetensors"), 128 * MIB);
  const all = Array.from({ length: 8 }, (_, i) => agent.publish(`update-${i}`, "in.safetensors"));
  expect((await Promise.all(all)).map(({ state }) => state)).toEqual(all.map(() => "done"));
  const bytes = await peak(home);
  if (bytes === undefined) return console.log("SKIPPED: needs /proc, to see what a process has in memory");
  // A process of 65 MiB, and of its budget of 128 what is in use: with a window for each it would be over 250.
  expect(bytes / MIB).toBeLessThan(190);
});
