import type { Spec } from "vega";

/** What a section is given to measure with. */
export interface BenchmarkContext {
  /** A glance: small models, one run of each. Nothing is judged by it. */
  readonly quick: boolean;
  /** A folder for large files, in memory where there is room; each section has it empty, and it is emptied afterwards. */
  readonly scratch: string;
  log(line: string): void;
  /** Says, in the section's place, what could not be measured, and why. */
  skip(what: string, why: string): void;
  readonly signal: AbortSignal;
}

/** A bar that something must reach, beside what it reached. */
export interface Verdict {
  readonly what: string;
  readonly found: string;
  readonly bar: string;
  /** Undefined where it could not be measured: `found` says why. */
  readonly pass: boolean | undefined;
}

export interface Plot {
  /** Of its file: `docs/benchmarks/NAME.svg`. */
  readonly name: string;
  /** What it shows, for those who do not see it. */
  readonly alt: string;
  readonly spec: Spec;
}

export interface RenderedSection {
  /** Below the section's heading; `![](NAME)` stands where the plot of that name goes, else plots follow the text. */
  readonly markdown: string;
  readonly plots: readonly Plot[];
}

/** A part of `npm run bench` with a place of its own in docs/benchmarks.md. */
export interface Section<Data extends object = object> {
  readonly id: string;
  readonly title: string;
  /** Runs, and gives plain JSON: kept in docs/benchmarks/ID.json until the section is measured again. */
  measure(context: BenchmarkContext): Promise<Data>;
  /** Pure. Whatever the page says comes from the data. */
  render(data: Data): RenderedSection;
  /** Pure: the table that stands in the README. */
  headline?(data: Data): string;
  /** Pure: lines of the summary at the page's top. */
  verdicts?(data: Data): readonly Verdict[];
}
