import { quote, TensorwireError } from "@tensorwire/core";
import type { Command } from "commander";
import { rawFileSource } from "../source/raw-file.js";
import { addEncodeFlags, streamOptions } from "./codec-flags.js";
import type { Flags } from "./flags.js";
import { transferModel } from "../transfer-model.js";
import { addPartsFlags, partsOptions } from "./parts-flags.js";
import { addTransferFlags } from "./transfer-flags.js";
import { addOverwriteFlag } from "./write-flags.js";
import { type Invocation, runTransfer } from "./invocation.js";

export function declarePack(program: Command, invocation: Invocation): void {
  const command = program
    .command("pack")
    .summary("write a model into an artifact")
    .description("Encodes a model, or any file, into an artifact (*.twire), to be sent or unpacked later.")
    .argument("<model>", "safetensors file or index, TensorFlow.js model.json, or any other file")
    .argument("<artifact>", "path of the artifact to write, *.twire")
    .action((model: string, artifact: string, flags: Flags) => pack(model, artifact, flags, invocation));
  addTransferFlags(addPartsFlags(addOverwriteFlag(addEncodeFlags(command))));
}

async function pack(model: string, artifact: string, flags: Flags, invocation: Invocation): Promise<void> {
  const { output } = invocation;
  output.quiet = flags.quiet ?? false;
  checkArtifactPath(artifact);
  const { overwrite } = flags;
  const options = { ...(await streamOptions(flags)), ...partsOptions(flags), overwrite };
  const source = flags.raw ? rawFileSource(model) : model;
  const words = {
    counter: "sent",
    deed: `packed ${model}`,
    place: "in the artifact",
    confirmation: () => `written to ${artifact}`,
  } as const;
  await runTransfer(invocation, words, ({ retry: _, ...watch }) =>
    transferModel(source, artifact, { ...options, ...watch }),
  );
}

/** @throws TensorwireError `INVALID_ARGUMENT` for what is no path of an artifact. */
export function checkArtifactPath(path: string): void {
  if (path.endsWith(".twire") && !/^[a-z][a-z0-9+.-]+:\/\//i.test(path)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} is no path of an artifact: its name ends in .twire`,
  );
}
