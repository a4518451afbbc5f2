import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { listen, receiveModel, streamModel } from "@tensorwire/stream";
import { median } from "../memory/bars.js";
import { writeNoiseModel } from "../model/noise-model.js";
import type { FaultKind, FaultOptions, FaultReport, Verdict } from "./fault-kind.js";
import { type Distance, LongWire } from "./long-wire.js";

const MiB = 2 ** 20;
/** 100 ms there and back, one packet in a hundred lost. */
const FAR: Distance = { delayMs: 50, bytesPerSecond: 8e6, lossOneIn: 100 };
const BAR = 0.8;
const CHANNELS = ["ws", "http", "tcp"] as const;

/** Seconds that something takes over a line that is as long as that. */
async function overLine(
  port: number,
  seed: number,
  move: (port: number) => Promise<unknown>,
): Promise<{ seconds: number; lost: number }> {
  const wire = await LongWire.open(port, FAR, seed);
  try {
    const started = performance.now();
    await move(wire.port);
    return { seconds: (performance.now() - started) / 1000, lost: wire.lost };
  } finally {
    await wire.close();
  }
}

/** The same bytes through a socket with nothing around it, until the other end says that it has them. */
async function bare(bytes: number, seed: number): Promise<{ seconds: number; lost: number }> {
  const server = createServer((socket) => {
    let left = bytes;
    socket.on("data", (portion) => {
      left -= portion.length;
      if (left === 0) socket.end("all");
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    return await overLine((server.address() as { port: number }).port, seed, async (port) => {
      const socket = connect(port, "127.0.0.1");
      const answered = once(socket, "data");
      const piece = Buffer.alloc(256 * 1024);
      for (let at = 0; at < bytes; at += piece.length) {
        if (!socket.write(piece.subarray(0, bytes - at))) await once(socket, "drain");
      }
      await answered;
      socket.destroy();
    });
  } finally {
    server.close();
  }
}

async function model(
  channel: (typeof CHANNELS)[number],
  source: string,
  target: string,
  seed: number,
): Promise<number> {
  const listener = await listen({ url: `${channel}://127.0.0.1:0` });
  const { done } = receiveModel(listener, { to: target });
  try {
    const { seconds } = await overLine(Number(new URL(listener.url).port), seed, (port) =>
      Promise.all([streamModel(source, `${channel}://127.0.0.1:${port}`), done]),
    );
    return seconds;
  } finally {
    await listener.close();
    await rm(target, { force: true });
  }
}

async function measure({ seed, count, scratch, say }: FaultOptions): Promise<FaultReport> {
  // A sample is one round of what is just long enough for what a transfer begins and ends with not to matter.
  const [bytes, rounds] = count === undefined ? [64 * MiB, 3] : [32 * MiB, 1];
  const source = join(scratch, "source.safetensors");
  await writeNoiseModel(source, { bytes, largestBytes: bytes / 4 });
  const ratios = new Map<string, number[]>(CHANNELS.map((channel) => [channel, []]));
  const rates = new Map<string, number[]>([
    ["bare TCP", []],
    ...CHANNELS.map((c) => [c, []] as [string, number[]]),
  ]);
  for (let round = 0; round < rounds; round++) {
    const { seconds: alone, lost } = await bare(bytes, seed + round);
    rates.get("bare TCP")!.push(bytes / alone / 1e6);
    say(`round ${round + 1}: a bare stream took ${alone.toFixed(2)} s and lost ${lost} packets`);
    for (const channel of CHANNELS) {
      const seconds = await model(channel, source, join(scratch, "target.safetensors"), seed + round);
      ratios.get(channel)!.push(alone / seconds);
      rates.get(channel)!.push(bytes / seconds / 1e6);
    }
  }
  const verdict = (channel: string): Verdict => {
    const ratio = median(ratios.get(channel)!);
    return {
      promise: `far away, ${channel} moves at least ${BAR} of what a bare stream does`,
      kept: ratio >= BAR,
      figures: ratio.toFixed(2),
    };
  };
  return {
    rows: [
      ["through the line", "MB/s", "of bare TCP"],
      ...[...rates].map(
        ([name, each]) =>
          [
            name,
            median(each).toFixed(2),
            ratios.has(name) ? median(ratios.get(name)!).toFixed(2) : "",
          ] as const,
      ),
    ],
    verdicts: CHANNELS.map(verdict),
  };
}

export const distance: FaultKind = {
  name: "distance",
  about: "a line of 100 ms there and back, 8 MB/s and one packet in a hundred lost, beside a bare stream",
  run: measure,
};
