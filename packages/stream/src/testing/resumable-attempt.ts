import { type Chunk, type ChunkDigest, xxh64 } from "@tensorwire/core";
import { expect } from "vitest";
import { isEncodedSink, type Resumable, type Sink, type SinkModel } from "../sink/sink.js";
import { sampleTensors } from "./sample-model.js";

/** One attempt at bringing the sample model to a resumable sink. */
export interface Attempt {
  readonly sink: Sink;
  readonly resumable: Resumable;
  /** What it holds; each as it was verified. */
  held(): number[];
  /** Writes chunks, and notes them. */
  write(from: number, to: number): Promise<void>;
  /** Writes chunks; each is noted by what this gives. @param change Is made to every byte of them. */
  put(from: number, to: number, change?: number): Promise<(() => void)[]>;
}

/** Opens a sink for a model. */
export async function attempt(sink: Sink, model: SinkModel): Promise<Attempt> {
  await sink.open(model);
  const { resumable } = sink;
  if (!resumable) throw new Error(`${sink.name} is not resumable`);
  const put: Attempt["put"] = async (from, to, change = 0) => {
    const notes: (() => void)[] = [];
    for (let ordinal = from; ordinal < to; ordinal++) {
      const chunk = model.plan.chunk(ordinal);
      const bytes = bytesOf(chunk).map((byte) => byte ^ change);
      const digest = digestOf(bytes);
      await give(sink, chunk, bytes, digest);
      // Lent only until then.
      bytes.fill(0xee);
      notes.push(() => resumable.note(chunk, digest));
    }
    return notes;
  };
  return {
    sink,
    resumable,
    put,
    held: () =>
      resumable.held.flatMap(({ first, chunks }) =>
        chunks.map((digest, i) => {
          expect(digest, `the digest of chunk ${first + i}`).toEqual(
            digestOf(bytesOf(model.plan.chunk(first + i))),
          );
          return first + i;
        }),
      ),
    write: async (from, to) => {
      for (let ordinal = from; ordinal < to; ordinal++) {
        for (const note of await put(ordinal, ordinal + 1)) note();
      }
    },
  };
}

async function give(
  sink: Sink,
  chunk: Chunk,
  bytes: Uint8Array,
  { codec, hash }: ChunkDigest,
): Promise<void> {
  if (!isEncodedSink(sink)) return sink.write(chunk, bytes);
  const { tensor, first: firstElement, elements } = chunk;
  const length = { payloadBytes: bytes.length, packedBytes: bytes.length };
  return sink.writeEncoded(
    chunk,
    { tensor, firstElement, elements, codec, packing: 0, hash, ...length },
    bytes,
  );
}

/** What the sample model has there. */
export function bytesOf({ tensor, offset, bytes }: Chunk): Uint8Array {
  return sampleTensors()[tensor]!.data.slice(offset, offset + bytes);
}

function digestOf(bytes: Uint8Array): ChunkDigest {
  return { codec: 0, hash: xxh64(bytes) };
}
