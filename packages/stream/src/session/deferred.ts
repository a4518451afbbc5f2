/** A promise with its settling functions (`Promise.withResolvers` is younger than Node 20). */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** The promise may go unobserved: a rejection nobody waits for is not an unhandled one. */
export function deferred<T>(): Deferred<T> {
  const made = pending<T>();
  made.promise.catch(() => {});
  return made;
}

/** For a promise that somebody surely waits for: half the cost, where there is one for each small tensor. */
export function pending<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
