// One listener a signal, however many jobs it can abort: Node warns of a leak from the eleventh on.
const actions = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `action` when the signal aborts, until the returned function is called. */
export function onAbort(signal: AbortSignal, action: () => void): () => void {
  let waiting = actions.get(signal);
  if (waiting === undefined) {
    waiting = new Set();
    actions.set(signal, waiting);
  }
  if (waiting.size === 0) signal.addEventListener("abort", abortAll);
  waiting.add(action);
  return () => {
    waiting.delete(action);
    // A long-lived signal holds nothing of the jobs that are done.
    if (waiting.size === 0) signal.removeEventListener("abort", abortAll);
  };
}

function abortAll(this: AbortSignal): void {
  for (const action of actions.get(this) ?? []) action();
}
