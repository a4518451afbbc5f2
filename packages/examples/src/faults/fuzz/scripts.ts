import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Channel, type ChunkDigest, FrameType, parseDataTable, xxh64 } from "@tensorwire/core";
import {
  memoryChannelPair,
  receiveModel,
  type SourceLike,
  type StreamOptions,
  streamModel,
} from "@tensorwire/stream";
import { type Frame, isCounted, parseFrames, tableBytes } from "./frame.js";
import { HashingSink, type Leftovers } from "./hashing-sink.js";

/** What one end of a transfer has said, frame by frame, and what the other end made of it. */
export interface Script {
  readonly name: string;
  readonly frames: readonly Frame[];
  /** Transfers on the connection. */
  readonly transfers: number;
  /** What a sender that hears this sends. */
  readonly source: Sample;
  /** What a receiver that hears this has already. */
  readonly leftovers?: Leftovers | undefined;
  /** What each receiver has decoded, as `HashingSink` says it. */
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

/** What both ends of a transfer have said. */
export interface Recording {
  readonly sender: Script;
  readonly receiver: Script;
  /** What the last receiver has decoded, by the chunk's ordinal. */
  readonly decoded: ReadonlyMap<number, string>;
}

/** Writes down a connection with some transfers of a sample. */
export async function record(sample: Sample, transfers = 1, leftovers?: Leftovers): Promise<Recording> {
  const [a, b] = memoryChannelPair();
  const [sending, receiving] = recorded(a, b);
  const contents: string[] = [];
  let decoded: ReadonlyMap<number, string> = new Map();
  for (let i = 0; i < transfers; i++) {
    const sink = new HashingSink(leftovers);
    const { done } = receiveModel(receiving.channel, { to: sink, windowBytes: WINDOW_BYTES });
    await Promise.all([streamModel(sample.model, sending.channel, sample.options), done]);
    contents.push(sink.content);
    decoded = sink.decoded;
  }
  await a.close();
  const script = { name: sample.name, transfers, source: sample, leftovers, contents };
  return {
    sender: { ...script, frames: sending.frames },
    receiver: { ...script, frames: receiving.frames },
    decoded,
  };
}

/** What a receiver would have of a recorded transfer that was interrupted after some chunks. */
export function leftoversOf({ sender, decoded }: Recording, chunks: number, sameVersion: boolean): Leftovers {
  const digests: ChunkDigest[] = [];
  let manifest = 0n;
  for (const { type, body } of sender.frames) {
    if (type === FrameType.MANIFEST) manifest = xxh64(body);
    if (type !== FrameType.DATA) continue;
    const table = parseDataTable(body.subarray(0, tableBytes(body)), body.length);
    digests.push(...table.map(({ codec, hash }) => ({ codec, hash })));
  }
  const held = [{ first: 0, chunks: digests.slice(0, chunks) }];
  return {
    manifest,
    held,
    sameVersion,
    decoded: new Map([...decoded].filter(([ordinal]) => ordinal < chunks)),
  };
}

/** The same as an artifact: what a sender says where nobody answers, and an index. */
export async function recordArtifact(sample: Sample, scratch: string): Promise<Script> {
  const path = join(scratch, `${sample.name.replaceAll(" ", "-")}.twire`);
  const [a, b] = memoryChannelPair();
  const { done } = receiveModel(b, { to: path, windowBytes: WINDOW_BYTES, overwrite: true });
  await Promise.all([streamModel(sample.model, a, sample.options), done]);
  await a.close();
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
