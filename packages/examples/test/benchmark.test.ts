import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { renderChannels } from "../src/benchmark/channels-page.js";
import { CHANNELS } from "../src/benchmark/end-job.js";
import type { EndToEndData, EndToEndRow } from "../src/benchmark/end-to-end-data.js";
import { CODECS } from "../src/benchmark/end-to-end-entries.js";
import { endToEndVerdicts } from "../src/benchmark/end-to-end-verdicts.js";
import type { ScalingData } from "../src/benchmark/scaling-data.js";
import { scalingVerdicts } from "../src/benchmark/scaling-verdicts.js";
import { hasProc } from "../src/memory/proc-status.js";
import { type Output, run } from "./program.js";

const MiB = 2 ** 20;

if (!hasProc) console.log("SKIPPED: needs /proc");

describe.skipIf(!hasProc)("a quick run, with a socat that fails", () => {
  let scratch: string;
  let output: Output;
  let page: string;
  const { PATH } = process.env;

  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), "benchmark-test-"));
    const bin = join(scratch, "bin");
    await mkdir(bin);
    await writeFile(join(bin, "socat"), '#!/bin/sh\n[ "$1" = -V ] || { echo no luck today >&2; exit 3; }\n');
    await chmod(join(bin, "socat"), 0o755);
    process.env.PATH = `${bin}:${PATH}`;
    output = await run("benchmark/main", ["--quick", "--only", "end-to-end,llama,scaling", "--out", scratch]);
    page = await readFile(join(scratch, "benchmarks.md"), "utf8");
  }, 120_000);
  afterAll(async () => {
    process.env.PATH = PATH;
    await rm(scratch, { recursive: true });
  });

  /** Of the table below a heading: cells by the first of them. */
  const rows = (heading: string): Map<string, string[]> => {
    const part = page.split(`\n### ${heading}\n`)[1]!.split("\n### ")[0]!;
    const lines = part.split("\n").filter((line) => line.startsWith("| "));
    return new Map(
      lines.map((line) => {
        const [first, ...others] = line
          .slice(2, -2)
          .split(" | ")
          .map((cell) => cell.trim());
        return [first!, others];
      }),
    );
  };

  test("ends well, and says that nothing is judged", () => {
    expect(output.stderr).toBe("");
    expect(output.code).toBe(0);
    expect(page).toContain("From a quick run, which is not judged: End to end; Llama-3.2-1B; Scaling.");
    expect(page).not.toMatch(/PASS|FAIL|NaN|undefined/);
  });

  test("has every codec, and what they are beside", () => {
    const file = rows("Mixed shapes, file to file");
    for (const [codec] of CODECS) expect([...file.keys()]).toContain(`\`${codec}\` over ws`);
    for (const name of [
      "Node, streams",
      "Node, aligned 1 MiB",
      "undici upload",
      "gzip -1, TCP",
      "msgpack, ws",
    ])
      expect(Number(file.get(name)?.[0]), name).toBeGreaterThan(0);
    expect(page).toContain("- Not measured: Llama-3.2-1B's shapes, file to file: not in a quick run");
  });

  test("tells a contender that failed as such, with its words, and goes on", () => {
    const file = rows("Mixed shapes, file to file");
    for (const name of ["socat, 64 KiB", "socat, 1 MiB"])
      expect(file.get(name)?.[0]).toBe("failed: the receiver exited with 3: no luck today");
  });

  test("has a place for everything that can grow, and a plot of it", async () => {
    const titles = [
      "Size of the model",
      "Largest tensor",
      "Number of tensors",
      "Size of a chunk",
      "Window",
      "Receivers at once",
      "Clients aggregated",
    ];
    for (const title of titles) {
      const places = [...rows(title).values()].slice(2);
      expect(places.length, title).toBeGreaterThan(0);
      for (const [seconds] of places) expect(Number(seconds), title).toBeGreaterThan(0);
    }
    const plots = (await readdir(join(scratch, "benchmarks"))).filter((name) => name.endsWith(".svg"));
    expect(plots).toHaveLength(1 + titles.length);
    for (const name of plots) {
      expect(page).toContain(`(benchmarks/${name})`);
      expect(await readFile(join(scratch, "benchmarks", name), "utf8")).toMatch(
        /^<svg[^>]*><style>@media \(prefers-color-scheme: dark\).*<\/svg>\n$/s,
      );
    }
  });
});

test("channels are a table of codecs and channels, with what failed in its place", () => {
  const end = { baseBytes: 0, peakBytes: 1, cpuSeconds: 1 };
  const rows = CHANNELS.map((channel, i) => ({
    ...{ name: `none over ${channel}`, codec: "none", channel },
    ...(i === 1 ? { runs: [], failed: "gone" } : { runs: [{ seconds: i + 1, sender: end, receiver: end }] }),
  }));
  const race = { id: "channels", title: "All", manner: "file", bytes: 6e9, tensors: 1, rounds: 1 } as const;
  const { markdown } = renderChannels({ races: [{ ...race, rows }] });
  expect(markdown).toContain(`|  | ${CHANNELS.join(" | ")} |`);
  expect(markdown).toContain("| `none` | 6.00 | failed | 2.00 | 1.50 | 1.20 |");
  expect(markdown).toMatch(/^\| `none` over http \| failed: gone \|/m);
});

describe("verdicts", () => {
  const end = (mib: number) => ({ baseBytes: 0, peakBytes: mib * MiB, cpuSeconds: 1 });
  const row = (name: string, seconds: number, mib = 100): EndToEndRow => ({
    name,
    ...(name.startsWith("socat") ? { bareCopy: true } : { codec: name, channel: "ws" as const }),
    runs: [{ seconds, sender: end(mib), receiver: end(mib) }],
  });
  const data = (rows: EndToEndRow[]): EndToEndData => ({
    races: [
      ...[{ id: "file", title: "", manner: "file" as const, bytes: 2 ** 30, tensors: 1, largestBytes: 1 }],
    ].map((race) => ({ ...race, rounds: 1, rows })),
  });

  test("are ratios to the best of socat's copies", () => {
    const found = endToEndVerdicts(
      data([row("socat, a", 1), row("socat, b", 0.9), row("normfloat4", 0.69), row("blockwise8", 0.91)]),
    );
    expect(found.slice(0, 4).map(({ pass }) => pass)).toEqual([true, false, undefined, undefined]);
    expect(found[0]?.found).toMatch(/^1\.30x .* of socat, b\)$/);
  });

  test("of memory are of the worst end", () => {
    const found = (mib: number) =>
      endToEndVerdicts(data([row("normfloat4", 1, 20), row("none", 1, mib)])).find(({ what }) =>
        what.startsWith("peak RSS"),
      );
    expect(found(160)?.pass).toBe(true);
    expect(found(161)).toMatchObject({ pass: false, found: "161.0 MiB at most: the sender's with `none`" });
  });

  test("of flatness need the whole range, unless a part breaks them already", () => {
    const points = (peaks: readonly (readonly [number, number])[]): ScalingData => ({
      series: [
        {
          ...{ id: "model-size", title: "", setting: "" },
          axis: { title: "", of: "bytes", scale: "linear" },
          points: peaks.map(([x, mib]) => ({
            x: x * MiB,
            runs: [
              {
                seconds: 1,
                ends: ["sender", "receiver"].map((name) => ({ name, peakBytes: mib * MiB, cpuSeconds: 1 })),
              },
            ],
          })),
        },
      ],
    });
    const passes = (data: ScalingData) => scalingVerdicts(data).map(({ pass }) => pass);
    const whole = [true, true, true, true];
    expect(
      passes(
        points([
          [256, 100],
          [1024, 110],
          [8192, 116],
        ]),
      ),
    ).toEqual(whole);
    expect(
      passes(
        points([
          [256, 100],
          [1024, 117],
          [8192, 100],
        ]),
      ),
    ).toEqual([true, false, true, false]);
    expect(
      passes(
        points([
          [256, 100],
          [4096, 116],
        ]),
      ),
    ).toEqual(whole.map(() => undefined));
    expect(
      passes(
        points([
          [256, 100],
          [4096, 161],
        ]),
      ),
    ).toEqual(whole.map(() => false));
    expect(passes(points([]))).toEqual([undefined, undefined]);
  });
});
