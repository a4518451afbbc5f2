import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const matrix = fileURLToPath(new URL("../python/matrix.py", import.meta.url));

/** The frameworks themselves, as processes: a sample of `npm run bench:frameworks`, which fails where aggregates differ. */
it.concurrent.each(["nvflare", "flower"])(
  "a federation in %s comes to the same aggregate by reference",
  { timeout: 300_000 },
  async (framework) => {
    const said = await new Promise<string>((resolve, reject) => {
      execFile("python3", [matrix, "--quick", "--framework", framework], (error, stdout, stderr) => {
        if (error && "code" in error && error.code === "ENOENT") resolve("SKIPPED: needs python3");
        else if (error) reject(new Error(`${stdout}\n${stderr}`));
        else resolve(stdout);
      });
    });
    const skipped = said.split("\n").find((line) => line.startsWith("SKIPPED"));
    if (skipped) return console.log(skipped);
    const rows = said
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as { codec: string | null; wireMiBARound: number });
    expect(rows.map(({ codec }) => codec)).toEqual([null, "none"]);
  },
);
