import { writeSync } from "node:fs";
import { encodeDataHead, Packing } from "@tensorwire/core";
import { BARE_WAYS } from "./bare-ways.js";
import { channelWays, INNER_WAYS, PULLED_WAYS } from "./channel-ways.js";
import type { PulledWay, Pour } from "./way.js";
import { CHUNK_BYTES, type EndFigures, FRAME_BYTES, type WayJob } from "./way-job.js";

// One end of one way, as a process: a line of JSON on descriptor 3 for each thing that it has to say.

const { role, name, scratch, address, frames, warmUp }: WayJob = JSON.parse(process.argv[2]!);

function say(figures: EndFigures | { readonly address: string }): void {
  writeSync(3, `${JSON.stringify(figures)}\n`);
}

/** Wall and processor seconds since. */
function stopwatch(): () => EndFigures {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return { seconds: (performance.now() - start) / 1000, cpuSeconds: (user + system) / 1e6 };
  };
}

/** Calls `over` with what it took from the end of the warm-up to the last byte. */
function counter(over: (figures: EndFigures) => void): (bytes: number) => void {
  let left = (frames + warmUp) * FRAME_BYTES;
  let read: (() => EndFigures) | undefined;
  return (bytes) => {
    left -= bytes;
    if (!read && left <= frames * FRAME_BYTES) read = stopwatch();
    if (left === 0) over(read!());
  };
}

async function pourFrames({ write, end }: Pour): Promise<EndFigures> {
  const payload = new Uint8Array(CHUNK_BYTES).map((_, i) => i * 31);
  const bytes = { elements: CHUNK_BYTES / 4, payloadBytes: CHUNK_BYTES, packedBytes: CHUNK_BYTES };
  const record = { tensor: 0, codec: 0, packing: Packing.RAW, firstElement: 0, hash: 0n, ...bytes };
  const frame = [encodeDataHead(1, [record]), payload];
  for (let i = 0; i < warmUp; i++) await write(frame);
  const read = stopwatch();
  for (let i = 0; i < frames; i++) await write(frame);
  const figures = read();
  await end();
  return figures;
}

/** As whoever waits to be asked does: says where, and then what it took. */
async function offer(way: PulledWay): Promise<void> {
  const { address, pour } = await way.offer();
  say({ address });
  say(await pourFrames(await pour));
}

const pulled = PULLED_WAYS[name];
const ways = { ...BARE_WAYS, ...channelWays(scratch) };
if (role === "both") void pourFrames(INNER_WAYS[name]!(counter(say)));
else if (pulled) void (role === "send" ? offer(pulled) : pulled.take(address!, counter(say)));
else if (role === "send") say(await pourFrames(await ways[name]!.send(address!)));
else say({ address: await ways[name]!.receive(counter(say)) });
