import {
  BATCH_BYTES,
  type ChunkPlan,
  type ChunkRange,
  DEFAULT_LIMITS,
  maxWantRanges,
  TensorwireError,
} from "@tensorwire/core";

/** What is wanted of a plan, divided between connections. */
export interface Shares {
  /** What each of them asks for. */
  readonly ranges: readonly (readonly ChunkRange[])[];
  /** Which of them brings a chunk, by its ordinal. */
  of(ordinal: number): number;
}

/**
 * Divides what is wanted into runs of about a chunk, dealt out in turn. So all connections are at work on what is needed next,
 * whatever the sizes of tensors.
 * @throws TensorwireError `LIMIT_EXCEEDED` where what is wanted is in more pieces than a frame can name.
 */
export function shareOut(
  plan: ChunkPlan,
  wanted: readonly ChunkRange[],
  count: number,
  windowBytes: number,
): Shares {
  const least = Math.max(plan.maxChunkBytes, BATCH_BYTES);
  const most = maxWantRanges(DEFAULT_LIMITS.maxControlBytes);
  for (let runBytes = Math.min(least, Math.floor(windowBytes / count)); ; runBytes *= 2) {
    const shares = deal(plan, wanted, count, runBytes);
    // Whoever asks for more runs than one frame names asks for longer ones.
    if (shares.ranges.every(({ length }) => length <= most)) return shares;
    if (runBytes <= plan.bytes) continue;
    const message = `what is wanted is ${wanted.length} runs of chunks, and one request names ${most}: take all of the model, or tensors that lie beside each other`;
    throw new TensorwireError("LIMIT_EXCEEDED", message);
  }
}

function deal(plan: ChunkPlan, wanted: readonly ChunkRange[], count: number, runBytes: number): Shares {
  // Of MAX_CONCURRENCY shares a number fits a byte.
  const owners = new Uint8Array(plan.chunks);
  const ranges: { first: number; count: number }[][] = Array.from({ length: count }, () => []);
  let [owner, bytes] = [0, 0];
  for (const chunk of plan.walk(wanted)) {
    if (bytes > 0 && bytes + chunk.bytes > runBytes) [owner, bytes] = [(owner + 1) % count, 0];
    bytes += chunk.bytes;
    owners[chunk.ordinal] = owner;
    const run = ranges[owner]!.at(-1);
    if (run && run.first + run.count === chunk.ordinal) run.count++;
    else ranges[owner]!.push({ first: chunk.ordinal, count: 1 });
  }
  return { ranges: ranges.filter(({ length }) => length > 0), of: (ordinal) => owners[ordinal]! };
}
