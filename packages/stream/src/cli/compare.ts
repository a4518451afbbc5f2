import type { Command } from "commander";
import { compareModels } from "../fidelity/compare.js";
import { comparisonText } from "./comparison-text.js";
import type { Flags } from "./flags.js";
import { addOutputFlags } from "./output-flags.js";
import { addReadingFlags, readingOptions } from "./reading-flags.js";
import type { Invocation } from "./invocation.js";

export function declareCompare(program: Command, invocation: Invocation): void {
  const command = program
    .command("compare")
    .summary("measure how far a model is from another")
    .description(
      "Measures how far model b is from a, the original, tensor by tensor and in total: largest and mean absolute " +
        "error, relative L2, cosine and SNR, and what each tensor takes. Both have the same tensors; dtypes may differ.",
    )
    .argument("<a>", "the original: a model or artifact")
    .argument("<b>", "what became of it: a model or artifact")
    .action((a: string, b: string, flags: Flags) => compare(a, b, flags, invocation));
  addReadingFlags(addOutputFlags(command));
}

async function compare(a: string, b: string, flags: Flags, { output, signal }: Invocation): Promise<void> {
  const comparison = await compareModels(a, b, { ...readingOptions(flags), signal });
  output.result(output.json ? JSON.stringify(comparison) : comparisonText(comparison));
}
