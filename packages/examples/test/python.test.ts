import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const matrix = fileURLToPath(new URL("../python/matrix.py", import.meta.url));

/** In MiB. */
interface Row {
  readonly codec: string | null;
  readonly peaks: { readonly server: { readonly anonymous: number } };
}

/** What it prints, or undefined where something is missing, which it says. */
async function runMatrix(...args: string[]): Promise<string | undefined> {
  const said = await new Promise<string>((resolve, reject) => {
    execFile("python3", [matrix, ...args], (error, stdout, stderr) => {
      if (error && "code" in error && error.code === "ENOENT") resolve("SKIPPED: needs python3");
      else if (error) reject(new Error(`${stdout}\n${stderr}`));
      else resolve(stdout);
    });
  });
  const skipped = said.split("\n").filter((line) => line.startsWith("SKIPPED"));
  for (const line of skipped) console.log(line);
  return /^SKIPPED: needs (?:python3|npm|node|pip)/m.test(said) ? undefined : said;
}

/** The frameworks themselves, as processes: a sample of `npm run bench:frameworks`, which fails where aggregates differ. */
it.concurrent.each(["nvflare", "flower"])(
  "a federation in %s comes to the same aggregate by reference",
  { timeout: 300_000 },
  async (framework) => {
    const said = await runMatrix("--quick", "--framework", framework);
    if (said === undefined) return;
    const [bare, ...rows] = said
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Row);
    expect(rows.map(({ codec }) => codec)).toEqual([null, "none"]);
    // Its global model, and its aggregator's sum and result: whatever comes from clients is mapped.
    const [alone, beside] = rows.map((row) => row.peaks.server.anonymous - bare!.peaks.server.anonymous);
    expect(beside).toBeLessThanOrEqual(3 * 64);
    expect(alone).toBeGreaterThan(2 * beside!);
  },
);

/** Whole federations that are disturbed take minutes: `npm run bench:frameworks -- --tests`. */
it("the Python package passes its tests, and fits the types of both frameworks", {
  timeout: 300_000,
}, async () => {
  const said = await runMatrix("--tests", "--quick", "--types");
  if (said === undefined) return;
  expect(said.match(/\d+ passed/g)).toHaveLength(2);
  expect(said.match(/Success: no issues found/g)).toHaveLength(2);
});
