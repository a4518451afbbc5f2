import type { Command } from "commander";
import { RETRY_DEFAULTS } from "../session/retry.js";
import { rawFileSource } from "../source/raw-file.js";
import { streamModel } from "../stream-model.js";
import { openPeer } from "./endpoint.js";
import { addChangedFlag, addEncodeFlags, streamOptions } from "./codec-flags.js";
import type { Flags } from "./flags.js";
import { addPeerFlags, addRetryFlag, addWaitFlag } from "./peer-flags.js";
import { addTransferFlags } from "./transfer-flags.js";
import { type Invocation, runTransfer } from "./invocation.js";

export function declareSend(program: Command, invocation: Invocation): void {
  const command = program
    .command("send")
    .summary("send a model to a peer")
    .description(
      "Sends a model, or any file, to a peer: to a URL, to whoever connects (--listen), or to a pipe (-).",
    )
    .argument("<model>", "safetensors file or index, TensorFlow.js model.json, artifact, or any other file")
    .argument(
      "[url]",
      "ws://, wss://, http://, https://, tcp://, tls:// or unix:/ URL of the receiver; - writes to stdout, and the result to stderr",
    )
    .action((model: string, url: string | undefined, flags: Flags) => send(model, url, flags, invocation));
  addTransferFlags(addChangedFlag(addEncodeFlags(addWaitFlag(addRetryFlag(addPeerFlags(command))))));
}

async function send(
  model: string,
  url: string | undefined,
  flags: Flags,
  invocation: Invocation,
): Promise<void> {
  const { output } = invocation;
  output.quiet = flags.quiet ?? false;
  output.stdoutIsModel = url === "-";
  const options = await streamOptions(flags);
  const source = flags.raw ? rawFileSource(model) : model;
  const { endpoint, dial, oneWay, close } = await openPeer(url, "send", flags, output);
  const words = {
    counter: oneWay ? "sent" : "acknowledged",
    deed: `sent ${model}`,
    place: "on the wire",
    confirmation: () => (oneWay ? "written to the pipe, which nobody confirms" : "confirmed by the receiver"),
  } as const;
  try {
    await runTransfer(
      invocation,
      words,
      (watch) => streamModel(source, endpoint, { ...options, dial, ...watch }),
      url === "-" ? flags.retry : (flags.retry ?? RETRY_DEFAULTS.attempts),
    );
  } finally {
    await close();
  }
}
