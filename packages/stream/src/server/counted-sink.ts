import type { EncodedSink } from "../sink/sink.js";

/** Source bytes of a model, and how many of them a sink has. */
export interface Count {
  sourceBytes: number;
  totalBytes: number;
}

/** A sink that keeps count of what it has, from this attempt and earlier ones. */
export function countedSink<S extends EncodedSink>(sink: S, count: Count): S {
  const { open, writeEncoded } = sink;
  sink.open = async (model) => {
    await open.call(sink, model);
    const { plan } = model;
    const held = sink.resumable?.held ?? [];
    count.totalBytes = plan.bytes;
    count.sourceBytes = 0;
    const runs = held.map(({ first, chunks }) => ({ first, count: chunks.length }));
    for (const { bytes } of plan.walk(runs)) count.sourceBytes += bytes;
  };
  sink.writeEncoded = (chunk, record, payload) => {
    const written = writeEncoded.call(sink, chunk, record, payload);
    if (!written) {
      count.sourceBytes += chunk.bytes;
      return undefined;
    }
    return written.then(() => {
      count.sourceBytes += chunk.bytes;
    });
  };
  return sink;
}
