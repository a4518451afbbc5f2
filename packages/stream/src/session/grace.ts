// How long the last words, and the frame that is half written, may take once something has failed. It bounds only the way
// out of a failure: no transfer fails by it.
const GRACE_MS = 1000;

/** What `work` gives, or `undefined` where that would take longer than the way out of a failure may. */
export async function withinGrace<T>(work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), GRACE_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
