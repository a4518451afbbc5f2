import type { TensorInfo } from "@tensorwire/core";
import type { CodecSpec } from "@tensorwire/stream";
import { type BareTransfer, bareNode, hasSocat, socat } from "./bare.js";
import type { BareWayName } from "./bare/way.js";
import type { Contender } from "./contender.js";
import type { ChannelName } from "./end-job.js";
import type { EndToEndRow } from "./end-to-end-data.js";
import { ours } from "./ours.js";
import { availableBytes } from "./room.js";
import type { BenchmarkContext } from "./section.js";

/** A row of a race, and who runs for it. */
export type Entry = Omit<EndToEndRow, "runs" | "failed"> & { readonly contender: Contender };

export type NamedCodec = readonly [string, string | CodecSpec];

/** Every codec, as it is shown and as it is asked for. */
export const CODECS: readonly NamedCodec[] = [
  ["none", "none"],
  ["float16", "float16"],
  ["bfloat16", "bfloat16"],
  ["blockwise8", "blockwise8"],
  ["linear8", "linear8"],
  ["linear4", "linear4"],
  ["float4", "float4"],
  ["normfloat4", "normfloat4"],
  ["normfloat4 nested", { name: "normfloat4", nested: true }],
  ["adaquant", "adaquant"],
  ["lossless", "lossless"],
];

/** Those that a bar is for. */
export const JUDGED_CODECS: readonly NamedCodec[] = CODECS.filter(([name]) =>
  ["none", "float16", "blockwise8", "normfloat4"].includes(name),
);

/** Enough to see that a race runs. */
export const QUICK_CODECS: readonly NamedCodec[] = CODECS.filter(([name]) => name === "normfloat4");

/** Transfers of ours: every codec over every channel. */
export function transfers(
  { scratch }: BenchmarkContext,
  model: string | readonly TensorInfo[],
  codecs: readonly NamedCodec[],
  channels: readonly ChannelName[],
): Entry[] {
  return channels.flatMap((channel) =>
    codecs.map(([name, codec]) => ({
      ...{ name: `${name} over ${channel}`, codec: name, channel },
      contender: ours({ name: `${name} over ${channel}`, scratch, model, channel, codec }),
    })),
  );
}

/** The copies of a file that a transfer is held against: what there is in Node, and what there is outside. */
export async function copies(context: BenchmarkContext, source: string): Promise<Entry[]> {
  const { scratch } = context;
  const entries: Entry[] = [];
  const add = (contender: Contender): unknown =>
    entries.push({ name: contender.name, bareCopy: true, contender });
  const transfer = (name: string): BareTransfer => ({ name, source, scratch });
  if (hasSocat()) {
    add(await socat(2 ** 16, transfer("socat, 64 KiB")));
    add(await socat(2 ** 20, transfer("socat, 1 MiB")));
  } else context.skip("socat, 64 KiB and 1 MiB", "socat is not installed");
  add(bareNode("copy", transfer("Node, streams")));
  add(bareNode("aligned-copy", transfer("Node, aligned 1 MiB")));
  return entries;
}

/** What a message of the whole model takes of memory, at both ends together, for each of its bytes. */
const MSGPACK_TIMES = 7;

/** They take so long that this often is enough to see it. */
const ROUNDS: Partial<Record<BareWayName, number>> = { gzip: 1, msgpack: 2 };

/** What people use instead. */
export function alternatives(context: BenchmarkContext, source: string, bytes: number): Entry[] {
  const { scratch } = context;
  const entries = (["undici", "gzip", "msgpack"] as const).map((way) => {
    const name = { undici: "undici upload", gzip: "gzip -1, TCP", msgpack: "msgpack, ws" }[way];
    const rounds = ROUNDS[way];
    const contender = bareNode(way, { name, source, scratch, ...(rounds && { rounds }) });
    return { name, contender };
  });
  if (availableBytes() >= MSGPACK_TIMES * bytes) return entries;
  context.skip("msgpack, ws", "there is not memory enough for the whole model, several times at each end");
  return entries.slice(0, 2);
}
