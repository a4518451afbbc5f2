import {
  fromTensors,
  type ProgressEvent,
  streamModel,
  type Tensor,
  type TensorInfo,
} from "@tensorwire/stream";
import { fillNoise } from "../model/noise.js";
import { elementsOf } from "../model/noise-model.js";
import { sendBlob } from "./blob.js";
import type { JobResult, SendJob } from "./job.js";
import { report, serveJobs } from "./serve-jobs.js";

const onProgress = (event: ProgressEvent): void => report({ kind: "progress", event });

async function send(job: SendJob): Promise<JobResult> {
  if (job.way === "container") return sendTensors(job);
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  if (job.way === "regular") {
    await sendBlob(job.source, job.url);
    return { seconds: seconds(), callerBytes: 0 };
  }
  const summary = await streamModel(job.source, job.url, { ...job.options, onProgress });
  return { summary, seconds: seconds(), callerBytes: 0 };
}

async function sendTensors({
  tensors,
  held,
  url,
  options,
}: Extract<SendJob, { way: "container" }>): Promise<JobResult> {
  const largest = Math.max(0, ...tensors.map(elementsOf));
  const source = held === "all" ? inMemory(tensors) : inTurn(tensors, new Float32Array(largest));
  const started = performance.now();
  const summary = await streamModel(fromTensors(tensors, source), url, { ...options, onProgress });
  const seconds = (performance.now() - started) / 1000;
  return { summary, seconds, callerBytes: largest * Float32Array.BYTES_PER_ELEMENT };
}

/** As a caller does whose tensors come from somewhere else: each is made when it is asked for, in one buffer. */
function* inTurn(tensors: readonly TensorInfo[], buffer: Float32Array): Generator<Tensor> {
  for (const [index, info] of tensors.entries()) {
    const data = buffer.subarray(0, elementsOf(info));
    fillNoise(data, index);
    yield { ...info, data };
  }
}

/** What the last job held is held on: a warm process has its model already. */
let model: Tensor[] = [];

function inMemory(tensors: readonly TensorInfo[]): readonly Tensor[] {
  const same = tensors.length === model.length && tensors.every(({ name }, i) => name === model[i]!.name);
  if (same) return model;
  model = tensors.map((info, index) => {
    const data = new Float32Array(elementsOf(info));
    fillNoise(data, index);
    return { ...info, data };
  });
  return model;
}

serveJobs(send);
