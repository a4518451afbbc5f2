import type { Command } from "commander";
import { transferModel } from "../transfer-model.js";
import type { Flags } from "./flags.js";
import { addIntegrityFlags } from "./integrity-flags.js";
import { addTransferFlags } from "./transfer-flags.js";
import { addPartsFlags } from "./parts-flags.js";
import { addWriteFlags, receiveOptions } from "./write-flags.js";
import { type Invocation, runTransfer } from "./invocation.js";
import { checkArtifactPath } from "./pack.js";

export function declareUnpack(program: Command, invocation: Invocation): void {
  const command = program
    .command("unpack")
    .summary("make an artifact a model again")
    .description(
      "Decodes an artifact (*.twire) into a model; an artifact of a raw file becomes that file again.",
    )
    .argument("<artifact>", "path of the artifact, *.twire")
    .argument("<model>", "path of the model to write: *.safetensors, or any path for a raw file")
    .action((artifact: string, model: string, flags: Flags) => unpack(artifact, model, flags, invocation));
  addTransferFlags(addIntegrityFlags(addPartsFlags(addWriteFlags(command))));
}

async function unpack(artifact: string, model: string, flags: Flags, invocation: Invocation): Promise<void> {
  invocation.output.quiet = flags.quiet ?? false;
  checkArtifactPath(artifact);
  const words = {
    counter: "acknowledged",
    deed: `unpacked ${artifact}`,
    place: "in the artifact",
    confirmation: () => `written to ${model}`,
  } as const;
  await runTransfer(invocation, words, ({ retry: _, ...watch }) =>
    transferModel(artifact, model, { ...receiveOptions(flags), ...watch }),
  );
}
