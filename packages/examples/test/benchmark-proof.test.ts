import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXACT, JUDGED } from "../src/accuracy/arrangement.js";
import { f32Bytes, gpt2Shapes, largestBytes, llamaShapes } from "../src/benchmark/models.js";
import type { Run } from "../src/benchmark/contender.js";
import type { FidelityData } from "../src/benchmark/fidelity/data.js";
import { fidelity } from "../src/benchmark/fidelity/section.js";
import { MeasuredProcess } from "../src/benchmark/measured-process.js";
import type { LlamaRow, NvflareData, NvflareRow } from "../src/benchmark/nvflare/data.js";
import { END_PROGRAM } from "../src/benchmark/nvflare/environment.js";
import { nvflareLlama } from "../src/benchmark/nvflare/llama-section.js";
import { nvflareDict } from "../src/benchmark/nvflare/section.js";
import type { SizesData } from "../src/benchmark/sizes/data.js";
import { plannedSize } from "../src/benchmark/sizes/planned.js";
import { PUBLISHED_SIZES } from "../src/benchmark/sizes/published.js";
import { measureSizes, sizes } from "../src/benchmark/sizes/section.js";
import { inMiB, withCodebook } from "../src/benchmark/sizes/verdicts.js";
import type { Section } from "../src/benchmark/section.js";
import { drawSvg } from "../src/benchmark/theme.js";

/** As the report sees data: from a file. */
const kept = <Data>(data: Data): Data => JSON.parse(JSON.stringify(data)) as Data;

/** The page's text, with every plot drawn. */
async function drawn<Data extends object>(section: Section<Data>, data: Data): Promise<string> {
  const { markdown, plots } = section.render(kept(data));
  for (const { name, spec } of plots) {
    expect(markdown).toContain(`![](${name})`);
    expect(await drawSvg(spec)).toMatch(/^<svg/);
  }
  return markdown;
}

describe("sizes", () => {
  test("of the shapes are those of NVFlare's published table", () => {
    const shapes = llamaShapes();
    for (const row of PUBLISHED_SIZES) {
      for (const codec of row.codecs) {
        const size = plannedSize(shapes, codec);
        const found = [inMiB(size.codes), inMiB(withCodebook(size, row, shapes.length))];
        expect(found, codec.name).toEqual([row.payload, row.meta]);
      }
    }
  });

  test("are measured, and the page says what came of it", async () => {
    const data: SizesData = await measureSizes({ quick: true, log: () => {} });
    expect(sizes.verdicts!(kept(data)).map(({ pass }) => pass)).toEqual([true, true]);
    const page = await drawn(sizes, data);
    expect(page).toContain("| 8 bits, `blockwise8` | 1429.06 | 1.54 | 1429.06 | 1.40 | 1.54 |");
    expect(page).toContain("| `lossless` | – | – |");
    const [first] = data.table;
    const other = { ...data, table: [{ ...first!, codes: first!.codes + 2 ** 20 }, ...data.table.slice(1)] };
    expect(sizes.verdicts!(other)[0]).toMatchObject({ pass: false, found: "another: none" });
  }, 60_000);
});

describe("beside NVFlare", () => {
  test("the dict has 292 entries of 1.42 GB, the largest of 206 MB", () => {
    const shapes = gpt2Shapes();
    expect(shapes.length).toBe(292);
    expect(f32Bytes(shapes)).toBe(1_419_292_672);
    expect(largestBytes(shapes)).toBe(205_852_672);
  });

  const row = (row: object, seconds: number, growth: number): NvflareRow => {
    const end = { baseBytes: 100, peakBytes: 100 + growth, cpuSeconds: 1 };
    const run: Run = {
      seconds: seconds + 1,
      sender: { ...end, beganAt: 5 },
      receiver: { ...end, endedAt: 5 + seconds },
    };
    return { name: "", runs: [run, run, run], ...row } as unknown as NvflareRow;
  };
  const dict = (rows: readonly NvflareRow[]): NvflareData => ({
    dict: { bytes: 1e9, tensors: 292, largestBytes: 2e8, rounds: 3, rows },
  });
  const theirs = [
    row({ manner: "container", release: "2", way: "regular" }, 9, 1600),
    row({ manner: "container", release: "2", way: "container" }, 10, 1500),
    row({ manner: "file", release: "2", way: "file" }, 8, 200),
    // An older one is shown, and nothing is judged by it.
    row({ manner: "file", release: "1", way: "file" }, 1, 1),
  ];
  const codecs = ["normfloat4", "none"] as const;
  const ours = (seconds: readonly number[], growth: number): NvflareRow[] =>
    codecs.flatMap((codec, i) => [
      row({ manner: "container", codec, taken: "chunks" }, seconds[i]!, growth),
      row({ manner: "file", codec }, seconds[i]!, growth),
    ]);

  test("bars are beside the fastest way, and the container way's growth", () => {
    const judged = (data: NvflareData) => nvflareDict.verdicts!(kept(data)).map(({ pass }) => pass);
    expect(judged(dict([...theirs, ...ours([1, 2], 100)]))).toEqual([true, true, true, true, true, true]);
    expect(judged(dict([...theirs, ...ours([1.1, 2], 101)]))).toEqual([
      false,
      true,
      false,
      true,
      false,
      false,
    ]);
    expect(judged(dict([...theirs, ...ours([1, 2.1], 100)]))).toEqual([true, false, true, false, true, true]);
    expect(judged(dict(theirs))).toEqual(Array(6).fill(undefined));
    // Without NVFlare there is nothing to be judged by.
    expect(judged(dict(ours([1, 2], 100)))).toEqual([]);
  });

  test("the page has a row for each, with how many times as fast it is", async () => {
    const page = await drawn(nvflareDict, dict([...theirs, ...ours([1, 2], 100)]));
    expect(page).toContain("| NVFlare 2, file | 8.00 | 1.0 | 9.00 |");
    expect(page).toContain("| `normfloat4`, container, taken chunk by chunk | 1.00 | 8.0 | 2.00 |");
    const alone = await drawn(nvflareDict, dict(ours([1, 2], 100)));
    expect(alone).toContain("NVFlare, which could not run here,");
    const failed = { ...theirs[0]!, runs: [], failed: "it was not to be" } as NvflareRow;
    expect(await drawn(nvflareDict, dict([failed, ...theirs.slice(1)]))).toContain(
      "| NVFlare 2, regular | failed | – |",
    );
  });

  test("its published table stands beside ours for the same shapes", async () => {
    const all: LlamaRow[] = [
      { ...row({ way: "file" }, 7, 95_780_000), way: "file" },
      { ...row({ way: "copy", name: "socat" }, 4, 1), way: "copy" },
    ];
    const page = await drawn(nvflareLlama, { bytes: 6e9, rows: all });
    expect(page).toContain("| NVFlare's published: file | 19,176 |  |  | 170 |  |");
    expect(page).toContain("| ours, file | 192 | – | 1/100 | 8.0 | 21.3 |");
    expect(page).toContain("(socat): 5.0 s, of which ours from file to file takes 1.60 times as much.");
    expect(await drawn(nvflareLlama, { bytes: 6e9, rows: [] })).not.toContain("ours, file");
  });

  test("what its Python says is heard", async () => {
    expect(await readFile(END_PROGRAM, "utf8")).toContain('"baseBytes": base, "beganAt": began');
    const folder = await mkdtemp(join(tmpdir(), "tensorwire-benchmark-"));
    try {
      const words =
        '{"report": {"peakBytes": 20, "baseBytes": 10, "beganAt": 36771.132149657, "versions": {"nvflare": "2"}}}';
      const said = new MeasuredProcess("sender", { argv: ["/bin/sh", "-c", `echo '${words}' >&3`] });
      expect(await said.ended).toMatchObject({ peakBytes: 20, baseBytes: 10, beganAt: 36771.132149657 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

test("fidelity: the page has every codec, the exact ones so, and every federation", async () => {
  const error = { maxAbs: 0, meanAbs: 0, relativeL2: 0, cosine: 1 };
  const data: FidelityData = {
    model: { name: "model", tensors: 1, elements: 100 },
    codecs: [
      { codec: { name: "none" }, bits: 32, ...error, snrDb: null },
      { codec: { name: "normfloat4", nested: true }, bits: 4.127, ...error, relativeL2: 0.09, snrDb: 20.6 },
    ],
    federated: {
      rounds: 2,
      seeds: [1],
      outcomes: [EXACT, ...JUDGED].map((arrangement, i) => ({
        arrangement,
        results: [
          { accuracy: [0.8, 0.9 - 0.003 * i], loss: [1, 1], modelBytes: 1, updateBytes: 1, sourceBytes: 1 },
        ],
      })),
    },
  };
  const page = await drawn(fidelity, data);
  expect(page).toContain("| `none` | 32.000 | 0 | 0 | 0 | 1 | exact |");
  expect(page).toContain("| `normfloat4, nested` | 4.127 | 0.00 | 0.00 | 0.09000 | 1.000000 | 20.6 |");
  expect(page).toMatch(/\| `none` \| deltas .* \+0\.00 /);
  // Six steps of 0.3 points: read from a file, they are still known for what they are.
  expect(fidelity.verdicts!(kept(data))).toMatchObject([
    { found: "-1.80 at most: normfloat4, error feedback", pass: false },
  ]);
});
