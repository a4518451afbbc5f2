import { BITSANDBYTES } from "./bitsandbytes-speeds.js";
import { NESTED, NESTED_BAR, NORMFLOAT4, PORTABLE_BAR, TWO_THREADS_BAR } from "./codec-cases.js";
import type { CaseResult, Row, Speeds } from "./codec-measurement.js";

const HEAD = [
  ...["codec", "by"],
  ...["encode", "x memcpy", "bar", "2 threads"],
  ...["decode", "x memcpy", "bar", "2 threads"],
  ...["payload B", "scales B", "% of source", "packed %"],
];
const LEFT = 2;

/** One line a contender, and what bitsandbytes reaches where it was measured. */
export function codecTable(results: readonly CaseResult[]): string {
  const lines = [HEAD, ...results.flatMap(caseLines)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          column < LEFT ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function caseLines({ given, sizes, rows }: CaseResult): string[][] {
  const share = (bytes: number): string => ((100 * bytes) / sizes.sourceBytes).toFixed(2);
  const lines = rows.map((row, i) => {
    const half = (which: keyof Speeds): string[] => [
      row.one[which].toFixed(2),
      (row.one[which] / row.memcpy).toFixed(2),
      // The bars are for the fastest kernels; the portable codecs have one in GB/s.
      row.portable ? `${PORTABLE_BAR} GB/s` : (i === 0 && given.bars?.[which].toFixed(2)) || "-",
      row.two ? `${(row.two[which] / row.one[which]).toFixed(2)}x` : "-",
    ];
    const size =
      i === 0
        ? [
            String(sizes.payloadBytes),
            String(sizes.scaleBytes),
            share(sizes.payloadBytes),
            share(sizes.packedBytes),
          ]
        : [];
    return [i === 0 ? given.label : "", row.by, ...half("encode"), ...half("decode"), ...size];
  });
  const published = BITSANDBYTES.codecs[given.label];
  if (published) {
    const half = (speeds?: readonly [number, number]): string[] =>
      speeds
        ? [
            speeds[0].toFixed(2),
            (speeds[0] / BITSANDBYTES.memcpy[0]).toFixed(2),
            "-",
            `${(speeds[1] / speeds[0]).toFixed(2)}x`,
          ]
        : ["-", "-", "-", "-"];
    lines.push(["", "bitsandbytes *", ...half(published.encode), ...half(published.decode)]);
  }
  return lines;
}

/** A thing that must be so, and whether it is. */
export interface Judgement {
  readonly pass: boolean;
  readonly line: string;
}

/** What was measured against the bars. */
export function judgements(results: readonly CaseResult[]): Judgement[] {
  const all: Judgement[] = [];
  const judge = (what: string, found: number, bar: number, unit = ""): void => {
    const pass = found >= bar;
    all.push({
      pass,
      line: `${pass ? "PASS" : "FAIL"}  ${what}: ${found.toFixed(2)}${unit}, at least ${bar}${unit}`,
    });
  };
  for (const { given, rows } of results) {
    const fastest = rows.find(({ portable }) => !portable);
    const portable = rows.find((row) => row.portable && !row.packs);
    for (const which of ["encode", "decode"] as const) {
      const what = `${given.label}, ${which}`;
      if (fastest && given.bars) judge(`${what}, of memcpy`, ratio(fastest, which), given.bars[which]);
      if (fastest?.two)
        judge(`${what}, two threads of one`, fastest.two[which] / fastest.one[which], TWO_THREADS_BAR);
      if (portable) judge(`${what}, portable`, portable.one[which], PORTABLE_BAR, " GB/s");
    }
  }
  const [plain, nested] = [NORMFLOAT4, NESTED].map((label) =>
    results.find(({ given }) => given.label === label)?.rows.find(({ portable }) => !portable),
  );
  for (const which of ["encode", "decode"] as const) {
    if (plain && nested)
      judge(`nested scales, ${which}, of plain ones`, ratio(nested, which) / ratio(plain, which), NESTED_BAR);
  }
  return all;
}

const ratio = (row: Row, which: keyof Speeds): number => row.one[which] / row.memcpy;

export const FOOTNOTE =
  "GB/s of source on one thread, with the payload's xxh64, which a call always computes; medians, memcpy (64-byte-aligned)\n" +
  "timed between the others. 2 threads: libuv's, 4 chunks in flight, of the one-thread figure; what moves as many bytes as\n" +
  "memcpy does cannot gain more than it from a second thread. lossless: with its packing, but for the portable codecs by\n" +
  "themselves, which make planes and pack nothing.\n" +
  "* bitsandbytes 0.50.1 on another machine (EPYC, Zen 3, 2 cores), beside that machine's memcpy: for orientation.";
