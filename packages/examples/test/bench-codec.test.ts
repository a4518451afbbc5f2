import { defaultCodecs } from "@tensorwire/core";
import { expect, test } from "vitest";
import { run } from "./program.js";

// Whether it runs, not how fast: no figure of a machine that runs tests is worth a bar.
test("the table of codecs has every codec, each with its sizes", { timeout: 120_000 }, async () => {
  const { stdout, stderr, code } = await run("bench/codec", ["--quick", "--json"]);
  expect(code, stderr).toBe(0);
  const { memcpy, results, judgements } = JSON.parse(stdout);
  expect(memcpy).toBeGreaterThan(0);
  expect(judgements).toEqual([]);
  const named = new Set(results.map(({ given }: { given: { spec: { name: string } } }) => given.spec.name));
  expect([...named].sort()).toEqual(defaultCodecs.names().sort());
  for (const { given, sizes, rows } of results) {
    const { spec, dtype } = given;
    expect(rows, given.label).toContainEqual(expect.objectContaining({ by: "portable", packs: false }));
    for (const { one } of rows) expect(Math.min(one.encode, one.decode), given.label).toBeGreaterThan(0);
    const most = defaultCodecs
      .get(spec.name)
      .payloadBytes(spec, dtype, sizes.sourceBytes / (dtype === "BF16" ? 2 : 4));
    // A chunk's own data, as the offset of nested scales, is in each of them.
    expect(sizes.payloadBytes, given.label).toBeLessThan(most + 1024);
    expect(sizes.packedBytes, given.label).toBeLessThanOrEqual(sizes.payloadBytes);
    expect(sizes.scaleBytes, given.label).toBeLessThan(sizes.payloadBytes);
  }
});

test("the table is printed beside what bitsandbytes reaches, and only what was asked for", async () => {
  const { stdout, stderr, code } = await run("bench/codec", [
    "--quick",
    "--codec",
    "blockwise8,none",
    "--isa",
    "portable",
  ]);
  expect(code, stderr).toBe(0);
  expect(stdout.match(/^(blockwise8|none) +portable/gm)).toHaveLength(2);
  expect(stdout).toMatch(/bitsandbytes \* +2\.40 +0\.15 .* +12\.60 +0\.78/);
  expect(await run("bench/codec", ["--quick", "--codec", "absent"])).toMatchObject({ code: 1 });
});
