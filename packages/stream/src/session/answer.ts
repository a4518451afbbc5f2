import type { Answer } from "@tensorwire/core";

// Work that is done within the call stays within it: a turn of the event loop for each of ten thousand small tensors
// would cost more than the tensors.

/** `use` of the answer: at once where it is there, else when it comes. */
export function whenAnswered<T, U>(answer: Answer<T>, use: (value: T) => Answer<U>): Answer<U> {
  return answer instanceof Promise ? answer.then(use) : use(answer);
}

/** The answer of `work`. What it throws, or rejects with, goes through `fault`, which throws in its place. */
export function guarded<T>(work: () => Answer<T>, fault: (error: unknown) => never): Answer<T> {
  try {
    const answer = work();
    return answer instanceof Promise ? answer.catch(fault) : answer;
  } catch (error) {
    return fault(error);
  }
}
