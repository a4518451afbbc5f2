import { writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { type Chunk, type ChunkDigest, TensorwireError, xxh64 } from "@tensorwire/core";
import type { ModelSink, Resumable, SinkModel } from "../src/sink/sink.js";
import { listing, modelOf, noise } from "./sink-fixture.js";

/** A model of one tensor, in chunks of 32 KiB. */
export function modelOfChunks(chunks: number, options: { version?: string; name?: string } = {}): SinkModel {
  const { name = "tensor", version = "v1" } = options;
  return { ...modelOf([{ name, dtype: "U8", shape: [chunks * 32_768] }]), version };
}

/** What the chunk holds in a state of the source. */
export function contentOf({ ordinal, bytes }: Chunk, state = 0): Uint8Array {
  return noise(bytes, ordinal * 1000 + state);
}

export function digestOf(bytes: Uint8Array): ChunkDigest {
  return { codec: 0, hash: xxh64(bytes) };
}

/** Writes and notes chunks, as a transfer does. */
export async function fill(
  sink: ModelSink,
  { plan }: SinkModel,
  from: number,
  to: number,
  state = 0,
): Promise<void> {
  for (let ordinal = from; ordinal < to; ordinal++) {
    const chunk = plan.chunk(ordinal);
    const bytes = contentOf(chunk, state);
    const digest = digestOf(bytes);
    await sink.write(chunk, bytes);
    bytes.fill(0xee);
    sink.resumable!.note(chunk, digest);
  }
}

/** Ordinals that are held. */
export function heldBy({ held }: Resumable): number[] {
  return held.flatMap(({ first, chunks }) => chunks.map((_, i) => first + i));
}

export const INTERRUPTION = new TensorwireError("CHANNEL_CLOSED", "the peer went away");

/** As if the process that wrote into the folder were gone. */
export function killed(folder: string): void {
  // Its pid runs, but began at another time.
  const dead = JSON.stringify({ pid: process.pid, host: hostname(), started: "1", token: "dead" });
  for (const file of listing(folder)) if (file.endsWith(".lock")) writeFileSync(`${folder}/${file}`, dead);
}
