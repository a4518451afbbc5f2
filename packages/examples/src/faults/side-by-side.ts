/** Runs jobs `from` to `end`, `width` at a time. */
export async function sideBySide(
  range: { readonly from: number; readonly end: () => boolean },
  width: number,
  job: (number: number) => Promise<void>,
): Promise<number> {
  let next = range.from;
  const lane = async (): Promise<void> => {
    while (!range.end()) await job(next++);
  };
  await Promise.all(Array.from({ length: width }, lane));
  return next - range.from;
}

/** Whether enough was done: a number of cases, or a time. */
export function enough(
  { count, seconds }: { readonly count?: number | undefined; readonly seconds?: number | undefined },
  usual: number,
): () => boolean {
  const until = seconds === undefined ? undefined : performance.now() + seconds * 1000;
  let begun = 0;
  return () => (until === undefined ? begun++ >= (count ?? usual) : performance.now() >= until);
}
