import { median } from "../../memory/bars.js";
import type { Outcome, Run } from "../contender.js";
import type { NvflareWay } from "./published.js";

/** Who brings a dict from one process to another, and what both callers do. */
export type NvflareRow = Outcome & {
  readonly manner: "container" | "file";
} & (
    | { readonly release: string; readonly way: NvflareWay }
    | { readonly codec: string; readonly taken?: Taken }
  );

/** What our receiving caller does with a container. */
export type Taken = "chunks" | "tensors" | "all";

export const TAKEN_WORDS: Readonly<Record<Taken, string>> = {
  chunks: "taken chunk by chunk",
  tensors: "taken tensor by tensor",
  all: "all tensors kept",
};

export interface NvflareData {
  /** The same dict by NVFlare and by ours, in one race. */
  readonly dict: {
    readonly bytes: number;
    readonly tensors: number;
    readonly largestBytes: number;
    readonly rounds: number;
    readonly rows: readonly NvflareRow[];
  };
}

/** Llama-3.2-1B's shapes by ours alone, and the file's bytes copied. */
export interface NvflareLlamaData {
  readonly bytes: number;
  readonly rows: readonly LlamaRow[];
}

export type LlamaRow = Outcome & { readonly way: "container" | "file" | "copy"; readonly taken?: Taken };

/** Medians of a row's runs. */
export interface DictFigures {
  /** Of the transfer itself: from the word at the sender until the receiver has everything. */
  readonly seconds: number;
  /** From the start of both processes to the exit of both. */
  readonly wholeSeconds: number;
  readonly sender: { readonly peakBytes: number; readonly growthBytes: number };
  readonly receiver: { readonly peakBytes: number; readonly growthBytes: number };
}

/** @returns undefined where there is no run. */
export function dictFigures({ runs }: Outcome): DictFigures | undefined {
  if (!runs.length) return undefined;
  const mid = (of: (run: Run) => number): number => median(runs.map(of));
  const end = (name: "sender" | "receiver") => ({
    peakBytes: mid((run) => run[name].peakBytes),
    growthBytes: mid((run) => run[name].peakBytes - run[name].baseBytes),
  });
  return {
    seconds: mid(({ sender, receiver }) => receiver.endedAt! - sender.beganAt!),
    wholeSeconds: mid(({ seconds }) => seconds),
    sender: end("sender"),
    receiver: end("receiver"),
  };
}

/** A row with its figures. */
export type Measured<Row> = { readonly row: Row; readonly figures: DictFigures };

export type TheirRow = Extract<NvflareRow, { release: string }>;
export type OurRow = Extract<NvflareRow, { codec: string }>;

const isTheirs = (row: NvflareRow): row is TheirRow => "release" in row;

function measured<Row extends NvflareRow>(rows: readonly Row[]): Measured<Row>[] {
  return rows.flatMap((row) => {
    const figures = dictFigures(row);
    return figures ? [{ row, figures }] : [];
  });
}

/** Of the release that was tried first, or of that one. */
export function theirs({ dict }: NvflareData, release?: string): Measured<TheirRow>[] {
  const all = measured(dict.rows.filter(isTheirs));
  const wanted = release ?? all[0]?.row.release;
  return all.filter(({ row }) => row.release === wanted);
}

export const releasesOf = ({ dict }: NvflareData): string[] => [
  ...new Set(dict.rows.filter(isTheirs).map(({ release }) => release)),
];

export function fastest(rows: readonly Measured<TheirRow>[]): Measured<TheirRow> | undefined {
  return [...rows].sort((a, b) => a.figures.seconds - b.figures.seconds)[0];
}

export function ours(
  { dict }: NvflareData,
  wanted: Pick<OurRow, "manner" | "codec"> & { readonly taken?: Taken },
): Measured<OurRow> | undefined {
  return measured(dict.rows.filter((row): row is OurRow => !isTheirs(row))).find(
    ({ row: { manner, codec, taken } }) =>
      manner === wanted.manner && codec === wanted.codec && taken === wanted.taken,
  );
}
