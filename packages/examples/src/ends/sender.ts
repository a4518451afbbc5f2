import {
  fromTensors,
  type ProgressEvent,
  streamModel,
  type Tensor,
  type TensorInfo,
} from "@tensorwire/stream";
import { fillNoise } from "../model/noise.js";
import { elementsOf, type NoiseModelSize, noiseTensors } from "../model/noise-model.js";
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
  model,
  held,
  url,
  options,
}: Extract<SendJob, { way: "container" }>): Promise<JobResult> {
  const { infos, tensors, map } = held === "one" ? inTurn(model) : inMemory(model);
  const started = performance.now();
  const source = held === "map" ? map! : fromTensors(infos, tensors);
  const summary = await streamModel(source, url, { ...options, onProgress });
  return { summary, seconds: (performance.now() - started) / 1000, callerBytes: model.largestBytes };
}

interface Container {
  readonly infos: readonly TensorInfo[];
  readonly tensors: Iterable<Tensor>;
  /** The same, where all of them are held. */
  readonly map?: ReadonlyMap<string, Tensor>;
}

/** As a caller does whose tensors come from somewhere else: each is made when it is asked for, in one buffer. */
function inTurn(model: NoiseModelSize): Container {
  const infos = noiseTensors(model);
  const buffer = new Float32Array(model.largestBytes / Float32Array.BYTES_PER_ELEMENT);
  function* tensors(): Generator<Tensor> {
    for (const [index, info] of infos.entries()) {
      const data = buffer.subarray(0, elementsOf(info));
      fillNoise(data, index);
      yield { ...info, data };
    }
  }
  return { infos, tensors: tensors() };
}

/** What jobs have held is held on: a warm process has its model already. */
const warm = new Map<string, Container>();

function inMemory(model: NoiseModelSize): Container {
  const key = JSON.stringify(model);
  let container = warm.get(key);
  if (!container) {
    const infos = noiseTensors(model);
    const tensors = infos.map((info, index) => {
      const data = new Float32Array(elementsOf(info));
      fillNoise(data, index);
      return { ...info, data };
    });
    const map = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    warm.set(key, (container = { infos, tensors, map }));
  }
  return container;
}

serveJobs(send);
