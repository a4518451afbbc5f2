import type { ModelSink } from "../sink/sink.js";

/** Takes a model for the sake of its digest, and keeps nothing. */
export function discardSink(finished?: ModelSink["finish"]): ModelSink {
  return {
    name: "nowhere",
    parallel: true,
    open: async () => {},
    write: () => undefined,
    finish: async (totals, digest) => finished?.(totals, digest),
    abort: async () => {},
  };
}
