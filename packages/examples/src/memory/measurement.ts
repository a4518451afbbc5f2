import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { EndProcess } from "../ends/end-process.js";
import type { JobResult, ReceiveJob, SendJob, SendOptions, Way } from "../ends/job.js";
import type { NoiseModelSize } from "../model/noise-model.js";
import { type MemoryCurve, MemorySampler } from "./sampler.js";

/** A transfer to measure. */
export interface Measured {
  readonly way: Way;
  readonly model: NoiseModelSize;
  /** The model as a safetensors file; the container way makes its own. */
  readonly source: string;
  readonly scratch: string;
  readonly options: SendOptions;
}

export interface EndMeasurement extends MemoryCurve {
  /** What its caller held for itself: a container's one tensor. */
  readonly callerBytes: number;
}

/** One run. */
export interface Measurement {
  readonly way: Way;
  readonly sender: EndMeasurement;
  readonly receiver: EndMeasurement;
  /** From connect to receipt. */
  readonly seconds: number;
}

/** No 4-bit codec is off by more: half the widest gap between two levels of float4 is 1/6. */
const TOLERANCE = 0.17;

/** Starts two fresh processes, moves the model from one to the other, and looks at both from outside. */
export async function measure(measured: Measured): Promise<Measurement> {
  const [sender, receiver] = await Promise.all([EndProcess.start("sender"), EndProcess.start("receiver")]);
  const samplers = { sender: new MemorySampler(sender.pid), receiver: new MemorySampler(receiver.pid) };
  const target = join(measured.scratch, "target.safetensors");
  try {
    const receiving = receiver.run(receiveJob(measured, target));
    const sending = sender.run(sendJob(measured, await receiving.listening));
    const [sent, received] = await Promise.all([sending.done, receiving.done]);
    await check(measured, target, sent, received);
    return {
      way: measured.way,
      sender: { ...samplers.sender.stop(), callerBytes: sent.callerBytes },
      receiver: { ...samplers.receiver.stop(), callerBytes: received.callerBytes },
      seconds: sent.seconds,
    };
  } finally {
    samplers.sender.cancel();
    samplers.receiver.cancel();
    await Promise.all([sender.close(), receiver.close()]);
    await rm(target, { force: true });
  }
}

function sendJob({ way, source, model, options }: Measured, url: string): SendJob {
  if (way === "regular") return { way, source, url };
  if (way === "file") return { way, source, url, options };
  return { way, model, held: "one", url, options };
}

function receiveJob({ way, options: { codec, windowBytes } }: Measured, target: string): ReceiveJob {
  if (way === "regular") return { way, target };
  if (way === "file") return { way, target, windowBytes };
  return { way, windowBytes, tolerance: codec === "none" ? 0 : TOLERANCE };
}

/** A transfer that lost something is no measurement. */
async function check(
  { way, source }: Measured,
  target: string,
  sent: JobResult,
  received: JobResult,
): Promise<void> {
  if (way !== "container") {
    const [before, after] = await Promise.all([stat(source), stat(target)]);
    if (before.size !== after.size) throw new Error(`${before.size} bytes became ${after.size}`);
  }
  if (way === "regular") return;
  const { digest, fallbackChunks, confirmed } = sent.summary!;
  if (!confirmed || received.summary!.digest !== digest)
    throw new Error("the two ends disagree about what was sent");
  if (fallbackChunks)
    throw new Error(`${fallbackChunks} chunks were not quantized: the model is not what it should be`);
}
