import { readFileSync } from "node:fs";
import type { Writable } from "node:stream";
import { listen, receiveModel, streamModel } from "@tensorwire/stream";
import { readProcStatus } from "../memory/proc-status.js";
import { holdModel, takeModel } from "./container.js";
import type { ContainerTensors, EndJob } from "./end-job.js";
import { now, sayAddress, sayDone } from "./end-report.js";

const job = JSON.parse(process.argv[2]!) as EndJob;
const tensors: ContainerTensors =
  job.manner === "container" ? JSON.parse(readFileSync(job.path, "utf8")) : [];

async function send(): Promise<void> {
  const { channel, codec, compress, windowBytes, chunkBytes } = job;
  const options = { codec, compress, windowBytes, chunkBytes };
  const held = job.manner === "container" ? holdModel(tensors, job.held) : undefined;
  // What the caller has before is no growth.
  const base = job.held === "all" ? { baseBytes: readProcStatus(process.pid)!.rssBytes } : {};
  // The other end's address: it is not waited for before everything is imported.
  const to = channel === "pipe" ? { writable: process.stdout as Writable } : readFileSync(0, "utf8");
  const beganAt = now();
  const { wireBytes, digest } = await streamModel(held?.source ?? job.path, to, options);
  sayDone({ ...base, beganAt, endedAt: now(), wireBytes, digest, callerBytes: held?.bytes ?? 0 });
}

async function receive(): Promise<void> {
  const { channel, windowBytes } = job;
  const listener = channel === "pipe" ? undefined : await listen(place());
  const from = listener ?? { readable: process.stdin };
  if (listener) sayAddress(listener.url);
  const file = job.manner === "file";
  const to = file ? job.path : undefined;
  const model = receiveModel(from, { to, borrow: job.taken !== "all", windowBytes });
  const callerBytes = file ? 0 : await takeModel(model, job.taken);
  const { wireBytes, digest } = await model.done;
  const endedAt = now();
  await listener?.close();
  sayDone({ endedAt, wireBytes, digest, callerBytes });
}

const place = () => (job.channel === "unix" ? { path: job.socket } : { url: `${job.channel}://127.0.0.1:0` });

await (job.role === "sender" ? send() : receive());
