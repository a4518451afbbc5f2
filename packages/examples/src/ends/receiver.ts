import { type Listener, listen, receiveModel } from "@tensorwire/stream";
import { checkNoise } from "../model/noise.js";
import { receiveBlob } from "./blob.js";
import type { JobResult, ReceiveJob } from "./job.js";
import { report, serveJobs } from "./serve-jobs.js";

let listener: Listener | undefined;

async function receive(job: ReceiveJob): Promise<JobResult> {
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  if (job.way === "regular") {
    await receiveBlob(job.target, (url) => report({ kind: "listening", url }));
    return { seconds: seconds(), callerBytes: 0 };
  }
  // One for all jobs: a warm process listens already.
  listener ??= await listen();
  const { windowBytes } = job;
  if (job.way === "file") {
    const { done } = receiveModel(listener, { to: job.target, overwrite: true, windowBytes });
    report({ kind: "listening", url: listener.url });
    return { summary: await done, seconds: seconds(), callerBytes: 0 };
  }
  const model = receiveModel(listener, { borrow: true, windowBytes });
  report({ kind: "listening", url: listener.url });
  let largest = 0;
  let index = 0;
  for await (const { name, data } of model) {
    const values = new Float32Array(
      data.buffer,
      data.byteOffset,
      data.byteLength / Float32Array.BYTES_PER_ELEMENT,
    );
    if (job.tolerance !== undefined) checkNoise(values, { index, name }, job.tolerance);
    largest = Math.max(largest, data.byteLength);
    index++;
  }
  return { summary: await model.done, seconds: seconds(), callerBytes: largest };
}

serveJobs(receive);
