import { median } from "../memory/bars.js";
import type { Outcome, Run } from "./contender.js";
import type { ChannelName, Manner } from "./end-job.js";

/** A contender's runs with one model. */
export interface EndToEndRow extends Outcome {
  /** Of a transfer of ours. */
  readonly codec?: string;
  readonly channel?: ChannelName;
  /** A copy of the file's bytes as they are, with nothing else. */
  readonly bareCopy?: boolean;
}

/** A race: all of its rows were run in turns. */
export interface EndToEndRace {
  readonly id: string;
  readonly title: string;
  readonly manner: Manner;
  readonly bytes: number;
  readonly tensors: number;
  readonly largestBytes?: number;
  readonly rounds: number;
  readonly rows: readonly EndToEndRow[];
}

export interface EndToEndData {
  readonly races: readonly EndToEndRace[];
}

/** Medians of a row's runs. */
export interface Figures {
  readonly seconds: number;
  readonly bytesPerSecond: number;
  readonly wireBytes: number | undefined;
  readonly sender: EndFigures;
  readonly receiver: EndFigures;
}

export interface EndFigures {
  /** Seconds of processor time for each 10^9 bytes of model. */
  readonly cpuPerGigabyte: number;
  readonly peakBytes: number;
  /** From start-up to the peak. */
  readonly growthBytes: number;
  readonly callerBytes: number;
}

/** @returns undefined where there is no run. */
export function figuresOf({ runs }: Outcome, bytes: number): Figures | undefined {
  if (!runs.length) return undefined;
  const mid = (of: (run: Run) => number): number => median(runs.map(of));
  const end = (name: "sender" | "receiver"): EndFigures => ({
    cpuPerGigabyte: mid((run) => run[name].cpuSeconds) / (bytes / 1e9),
    peakBytes: mid((run) => run[name].peakBytes),
    growthBytes: mid((run) => run[name].peakBytes - run[name].baseBytes),
    callerBytes: mid((run) => run[name].callerBytes ?? 0),
  });
  const seconds = mid((run) => run.seconds);
  const wireBytes = runs[0]!.sender.wireBytes;
  return {
    ...{ seconds, wireBytes, bytesPerSecond: bytes / seconds },
    ...{ sender: end("sender"), receiver: end("receiver") },
  };
}

/** The bare copy of a race that was fastest, of those that are named so. */
export function bestCopy(race: EndToEndRace, prefix = ""): (Figures & { name: string }) | undefined {
  const copies = race.rows
    .filter(({ bareCopy, name }) => bareCopy && name.startsWith(prefix))
    .flatMap((row) => {
      const figures = figuresOf(row, race.bytes);
      return figures ? [{ ...figures, name: row.name }] : [];
    });
  return copies.sort((a, b) => a.seconds - b.seconds)[0];
}

export const raceOf = ({ races }: EndToEndData, id: string): EndToEndRace | undefined =>
  races.find((race) => race.id === id);
