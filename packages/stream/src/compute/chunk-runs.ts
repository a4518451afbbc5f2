import type { ChunkPlan, ChunkRange } from "@tensorwire/core";

/**
 * Runs of one plan as those of another, in which tensor `places[i]` has the elements of tensor `i` of the first, cut as that
 * plan cuts them. A tensor without a place has none.
 * @returns Undefined where the tensors are in another order there, so that no ascending runs say it.
 */
export function mappedRuns(
  runs: readonly ChunkRange[],
  from: ChunkPlan,
  to: ChunkPlan,
  places: readonly (number | undefined)[],
): ChunkRange[] | undefined {
  const mapped: { first: number; count: number }[] = [];
  let next = 0;
  for (const { tensor, first, elements } of from.walk(runs)) {
    const place = places[tensor];
    if (place === undefined) continue;
    const range = to.range(place);
    const each = to.chunk(range.first).elements;
    const begin = range.first + Math.floor(first / each);
    const end = range.first + Math.floor((first + elements - 1) / each) + 1;
    const last = mapped.at(-1);
    // Two chunks can lie in one of the other plan.
    if (last && begin < next - 1) return undefined;
    if (last && begin <= next) last.count = Math.max(last.count, end - last.first);
    else mapped.push({ first: begin, count: end - begin });
    next = Math.max(next, end);
  }
  return mapped;
}
