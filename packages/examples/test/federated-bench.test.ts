import { expect, it } from "vitest";
import { run } from "./program.js";

// Whether it runs, not how fast: no figure of a machine that runs tests is worth a bar. Of accuracy there is a test of its own.
it("the bench of a round measures means, serving and memory", { timeout: 300_000 }, async () => {
  const { stdout, stderr, code } = await run("federated-bench/main", [
    "--quick",
    "--json",
    "--only",
    "aggregate,serving,memory",
  ]);
  expect(code, stderr).toBe(0);
  for (const line of stdout.split("\n").filter((each) => each.startsWith("SKIPPED"))) console.log(line);
  const { rows } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    rows: { what: string; bar?: { pass: boolean } }[];
  };
  expect(rows.filter(({ what }) => what.startsWith("mean of 3 clients"))).toHaveLength(2);
  // What does not depend on the machine.
  expect(rows.find(({ what }) => what === "made for all of them")?.bar?.pass).toBe(true);
  const disk = rows.find(({ what }) => what.startsWith("on the disk"));
  if (disk) expect(disk.bar?.pass).toBe(true);
});

it("takes no part that it does not have", async () => {
  expect(await run("federated-bench/main", ["--quick", "--only", "absent"])).toMatchObject({ code: 1 });
});
