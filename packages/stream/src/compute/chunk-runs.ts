import type { ChunkPlan, ChunkRange } from "@tensorwire/core";

/**
 * Runs of one plan as those of another, in which tensor `places[i]` is cut as tensor `i` is in the first: what a view wants,
 * said to what it is a view of.
 */
export function mappedRuns(
  runs: readonly ChunkRange[],
  from: ChunkPlan,
  to: ChunkPlan,
  places: readonly number[],
): ChunkRange[] {
  const mapped: { first: number; count: number }[] = [];
  for (const run of runs) {
    const end = run.first + run.count;
    for (let at = run.first; at < end; ) {
      const { tensor } = from.chunk(at);
      const range = from.range(tensor);
      const count = Math.min(end, range.first + range.count) - at;
      const first = to.range(places[tensor]!).first + at - range.first;
      const last = mapped.at(-1);
      if (last && last.first + last.count === first) last.count += count;
      else mapped.push({ first, count });
      at += count;
    }
  }
  return mapped;
}
