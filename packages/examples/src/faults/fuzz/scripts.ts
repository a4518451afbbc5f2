import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Channel } from "@tensorwire/core";
import {
  memoryChannelPair,
  receiveModel,
  type SourceLike,
  type StreamOptions,
  streamModel,
} from "@tensorwire/stream";
import { type Frame, isCounted, parseFrames } from "./frame.js";
import { HashingSink } from "./hashing-sink.js";

/** What one end of a transfer has said, frame by frame, and what the other end made of it. */
export interface Script {
  readonly name: string;
  readonly frames: readonly Frame[];
  /** Transfers on the connection. */
  readonly transfers: number;
  /** What a sender that hears this sends. */
  readonly source: Sample;
  /** Hashes of what each receiver has decoded. */
  readonly contents: readonly string[];
}

/** A model to be sent, in a way that has something of its own. */
export interface Sample {
  readonly name: string;
  readonly model: SourceLike;
  readonly options: StreamOptions;
}

/** Windows of both ends; a script waits for no credit. */
export const WINDOW_BYTES = 512 * 1024;
export const CHUNK_BYTES = 32 * 1024;

/** Both ends of a transfer, written down. */
export async function record(
  sample: Sample,
  transfers: number,
): Promise<{ sender: Script; receiver: Script }> {
  const [a, b] = memoryChannelPair();
  const [sending, receiving] = recorded(a, b);
  const contents: string[] = [];
  for (let i = 0; i < transfers; i++) {
    const sink = new HashingSink();
    const { done } = receiveModel(receiving.channel, { to: sink, windowBytes: WINDOW_BYTES });
    await Promise.all([streamModel(sample.model, sending.channel, sample.options), done]);
    contents.push(sink.content);
  }
  await a.close();
  const script = { name: sample.name, transfers, source: sample, contents };
  return { sender: { ...script, frames: sending.frames }, receiver: { ...script, frames: receiving.frames } };
}

/** The same as an artifact, which is what a sender says where nobody answers. */
export async function recordArtifact(sample: Sample, scratch: string): Promise<Script> {
  const path = join(scratch, `${sample.name.replaceAll(" ", "-")}.twire`);
  await streamModel(sample.model, path, sample.options);
  const sink = new HashingSink();
  await receiveModel(path, { to: sink, windowBytes: WINDOW_BYTES }).done;
  const frames = parseFrames(await readFile(path));
  return { name: sample.name, frames, transfers: 1, source: sample, contents: [sink.content] };
}

interface Recorded {
  readonly channel: Channel;
  readonly frames: Frame[];
}

function recorded(a: Channel, b: Channel): [Recorded, Recorded] {
  const counts = { a: 0, b: 0 };
  const wrap = (channel: Channel, self: "a" | "b"): Recorded => {
    const frames: Frame[] = [];
    const other = self === "a" ? "b" : "a";
    return {
      frames,
      channel: {
        kind: channel.kind,
        direction: channel.direction,
        open: (receiver) => channel.open(receiver),
        close: (error) => channel.close(error),
        send(parts) {
          const sent = parseFrames(Buffer.concat(parts), counts[other]);
          frames.push(...sent);
          counts[self] += sent.filter(({ type }) => isCounted(type)).length;
          return channel.send(parts);
        },
      },
    };
  };
  return [wrap(a, "a"), wrap(b, "b")];
}
