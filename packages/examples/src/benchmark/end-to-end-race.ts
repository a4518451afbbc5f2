import type { TensorInfo } from "@tensorwire/core";
import type { EndToEndRace } from "./end-to-end-data.js";
import type { Entry } from "./end-to-end-entries.js";
import { f32Bytes, largestBytes } from "./models.js";
import { race } from "./race.js";
import type { BenchmarkContext } from "./section.js";

/** Slower than any contender should be, gzip too. */
const LEAST_BYTES_PER_SECOND = 10e6;
const LEAST_LIMIT_SECONDS = 60;

export type Setting = Omit<EndToEndRace, "rows">;

export async function runRace(
  { quick, log, signal }: BenchmarkContext,
  setting: Setting,
  entries: readonly Entry[],
): Promise<EndToEndRace> {
  const { title, bytes } = setting;
  const rounds = quick ? 1 : setting.rounds;
  log(`${title}: ${entries.length} contenders, ${rounds} runs of each`);
  const outcomes = await race(
    entries.map(({ contender }) => contender),
    { rounds, signal, log, limitSeconds: LEAST_LIMIT_SECONDS + bytes / LEAST_BYTES_PER_SECOND },
  );
  const rows = entries.map(({ contender: _, ...row }, i) => ({ ...row, ...outcomes[i]! }));
  return { ...setting, rounds, rows };
}

export const sizesOf = (
  tensors: readonly TensorInfo[],
): Pick<Setting, "bytes" | "tensors" | "largestBytes"> => ({
  bytes: f32Bytes(tensors),
  tensors: tensors.length,
  largestBytes: largestBytes(tensors),
});
