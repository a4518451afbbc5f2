import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { listen, receiveModel, streamModel } from "@tensorwire/stream";
import { writeNoiseModel } from "../../model/noise-model.js";
import { type DistanceTask, FAR, type FarChannel, type Seconds } from "./job.js";
import { LongWire } from "./long-wire.js";

// Both ends of what goes over a long line: in a namespace of the network's own, where the kernel makes its loopback long.

const task: DistanceTask = JSON.parse(process.argv[2]!);

/** Seconds that something takes over a line that is as long as that. */
async function overLine(
  port: number,
  seed: number,
  move: (port: number) => Promise<unknown>,
): Promise<number> {
  // In a namespace whose loopback is that long there is nothing to add.
  const wire = task.line === "proxy" ? await LongWire.open(port, FAR, seed) : undefined;
  try {
    const started = performance.now();
    await move(wire?.port ?? port);
    return (performance.now() - started) / 1000;
  } finally {
    await wire?.close();
  }
}

/** The same bytes through a socket with nothing around it, until the other end says that it has them. */
async function bare(bytes: number, seed: number): Promise<number> {
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

async function model(channel: FarChannel, source: string, target: string, seed: number): Promise<number> {
  const listener = await listen({ url: `${channel}://127.0.0.1:0` });
  const { done } = receiveModel(listener, { to: target });
  try {
    return await overLine(Number(new URL(listener.url).port), seed, (port) =>
      Promise.all([streamModel(source, `${channel}://127.0.0.1:${port}`), done]),
    );
  } finally {
    await listener.close();
    await rm(target, { force: true });
  }
}

const source = join(task.scratch, "source.safetensors");
const target = join(task.scratch, "target.safetensors");
await writeNoiseModel(source, { bytes: task.bytes, largestBytes: task.bytes / 4 });
for (let round = 0; round < task.rounds; round++) {
  const seed = task.seed + round;
  const seconds: Seconds = { bare: await bare(task.bytes, seed), channels: {} };
  for (const channel of task.channels) {
    seconds.channels[channel] = await model(channel, source, target, seed);
  }
  process.send!(seconds);
}
process.disconnect();
