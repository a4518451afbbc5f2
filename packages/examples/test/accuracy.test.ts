import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { COMPARED, EXACT, JUDGED, labelOf } from "../src/accuracy/arrangement.js";
import { MOST_POINTS } from "../src/accuracy/verdict.js";
import { LABELS, readDigits } from "../src/federated-averaging/digits.js";
import { digitsOf } from "../src/federated-averaging/share.js";
import { run } from "./program.js";

const page = (name: string): Promise<string> =>
  readFile(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

test("a federation comes to the same model again from the same seed", async () => {
  const args = ["--rounds", "1", "--seeds", "7,7", "--jobs", "2", "--only", "none", "--no-write"];
  const { code, stdout, stderr } = await run("accuracy/main", args);
  expect(code, stderr).toBe(0);
  const [, one, other] = /^\| `none` \|.* (\d\d\.\d\d), (\d\d\.\d\d) \|/m.exec(stdout)!;
  expect(Number(one)).toBeGreaterThan(60);
  expect(other).toBe(one);
}, 120_000);

describe("the accuracy in the docs", () => {
  const all = [EXACT, ...JUDGED, ...COMPARED];

  test("has every arrangement, and those that are judged within their bound", async () => {
    const guide = await page("guides/federated.md");
    const rows = [...guide.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)].filter(
      ([row]) => row.split("|").length === 11,
    );
    expect(rows.map(([, codec]) => codec)).toEqual(all.map(({ codec }) => codec));
    const exact = Number(rows[0]![2]!.split(" | ")[3]);
    expect(exact).toBeGreaterThan(93);
    rows.forEach(([row, , rest], i) => {
      const [, , feedback, mean, seeds, points] = rest!.split(" | ");
      expect(feedback).toBe(all[i]!.feedback ? "yes" : "no");
      const each = seeds!.split(", ").map(Number);
      expect(each.length).toBe(3);
      expect(Math.abs(each.reduce((sum, value) => sum + value, 0) / 3 - Number(mean)), row).toBeLessThan(
        0.011,
      );
      const difference = Number(points!.replace("−", "-"));
      expect(Math.abs(Number(mean) - exact - difference), row).toBeLessThan(0.011);
      if (JUDGED.includes(all[i]!)) expect(Math.abs(difference), row).toBeLessThanOrEqual(MOST_POINTS);
    });
  });

  test("has a curve for each", async () => {
    const plot = await page("federated.svg");
    for (const arrangement of all) expect(plot).toContain(`>${labelOf(arrangement)}</text>`);
  });
});

test("clients share the digits of the training: each is one client's, and none of them has all alike", async () => {
  const { training, test: apart } = await readDigits();
  expect(apart.labels.length).toBe(2000);
  const shares = [1, 2, 3].map((number) => digitsOf({ number, of: 3 }, training, 1).labels);
  const counts = (labels: Uint8Array): number[] =>
    Array.from({ length: LABELS }, (_, label) => labels.filter((each) => each === label).length);
  const parts = shares.map(counts);
  expect(counts(training.labels)).toEqual(parts[0]!.map((count, i) => count + parts[1]![i]! + parts[2]![i]!));
  for (const part of parts) expect(Math.max(...part)).toBeGreaterThan(4 * Math.min(...part));
});
