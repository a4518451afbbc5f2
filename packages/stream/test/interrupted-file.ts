import { afterEach } from "vitest";
import { safetensorsSink } from "../src/sink/safetensors.js";
import type { ModelSink, SinkModel } from "../src/sink/sink.js";
import { fill, heldBy, INTERRUPTION, modelOfChunks } from "./journal-fixture.js";

export const model = modelOfChunks(12);

/** Sinks that were opened: each is closed when its test is over. */
export const sinks: ModelSink[] = [];
afterEach(async () => {
  for (const sink of sinks.splice(0)) await sink.abort(INTERRUPTION);
});

export async function opened(path: string, of: SinkModel = model, options = {}): Promise<ModelSink> {
  const sink = safetensorsSink(path, options);
  await sink.open(of);
  sinks.push(sink);
  return sink;
}

/** An interrupted transfer's traces: half of the chunks. */
export async function interrupted(path: string, of: SinkModel = model): Promise<void> {
  const sink = await opened(path, of);
  await fill(sink, of, 0, 6);
  await sink.abort(INTERRUPTION);
}

export async function held(path: string, options = {}): Promise<number> {
  const sink = await opened(path, model, options);
  const { length } = heldBy(sink.resumable!);
  await sink.abort(INTERRUPTION);
  return length;
}
