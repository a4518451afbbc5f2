import { readFileSync } from "node:fs";
import type { Writable } from "node:stream";
import { fromTensors, listen, receiveModel, streamModel, type Tensor } from "@tensorwire/stream";
import { elementsOf } from "../model/noise-model.js";
import { fillNoise } from "../model/noise.js";
import { sayAddress, sayDone } from "./end-report.js";
import type { ContainerTensors, EndJob } from "./end-job.js";
import { largestBytes } from "./models.js";

const F32_BYTES = 4;

const job = JSON.parse(process.argv[2]!) as EndJob;
const tensors: ContainerTensors =
  job.manner === "container" ? JSON.parse(readFileSync(job.path, "utf8")) : [];

/** As a caller does whose tensors come from somewhere else: each is made when it is asked for, in one buffer. */
function* inTurn(): Generator<Tensor> {
  const buffer = new Float32Array(largestBytes(tensors) / F32_BYTES);
  for (const [index, info] of tensors.entries()) {
    const data = buffer.subarray(0, elementsOf(info));
    fillNoise(data, index);
    yield { ...info, data };
  }
}

async function send(): Promise<void> {
  const { channel, codec, compress, windowBytes, chunkBytes } = job;
  const options = { codec, compress, windowBytes, chunkBytes };
  const source = job.manner === "file" ? job.path : fromTensors(tensors, inTurn());
  // The other end's address: it is not waited for before everything is imported.
  const to = channel === "pipe" ? { writable: process.stdout as Writable } : readFileSync(0, "utf8");
  const { wireBytes, digest } = await streamModel(source, to, options);
  sayDone({ wireBytes, digest, callerBytes: tensors.length ? largestBytes(tensors) : 0 });
}

async function receive(): Promise<void> {
  const { channel, windowBytes } = job;
  const listener = channel === "pipe" ? undefined : await listen(place());
  const from = listener ?? { readable: process.stdin };
  if (listener) sayAddress(listener.url);
  if (job.manner === "file") {
    const { wireBytes, digest } = await receiveModel(from, { to: job.path, windowBytes }).done;
    await listener?.close();
    sayDone({ wireBytes, digest });
    return;
  }
  const model = receiveModel(from, { borrow: true, windowBytes });
  let callerBytes = 0;
  for await (const { data } of model) callerBytes = Math.max(callerBytes, data.byteLength);
  const { wireBytes, digest } = await model.done;
  await listener?.close();
  sayDone({ wireBytes, digest, callerBytes });
}

const place = () => (job.channel === "unix" ? { path: job.socket } : { url: `${job.channel}://127.0.0.1:0` });

await (job.role === "sender" ? send() : receive());
