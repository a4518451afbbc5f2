import type { CodecSpec } from "@tensorwire/core";
import type { Command } from "commander";
import { evaluateModel } from "../fidelity/evaluate.js";
import { openPlotter } from "../fidelity/evaluation-plot.js";
import { PartFile } from "../sink/part-file.js";
import { evaluationText } from "./evaluation-text.js";
import { addMinElementsFlag } from "./codec-flags.js";
import { codecList } from "./codec-text.js";
import type { Flags } from "./flags.js";
import { addOutputFlags } from "./output-flags.js";
import { addReadingFlags, readingOptions } from "./reading-flags.js";
import { addOverwriteFlag } from "./write-flags.js";
import type { Invocation } from "./invocation.js";

interface EvaluateFlags extends Flags {
  readonly codecs?: CodecSpec[];
  readonly plot?: string;
}

export function declareEvaluate(program: Command, invocation: Invocation): void {
  const command = program
    .command("evaluate")
    .summary("try codecs on a model")
    .description(
      "Tries codecs on a model, chunk by chunk: what it would take, how far it would be from the original, and how " +
        "fast that goes here.",
    )
    .argument("<model>", "a model or artifact")
    .option(
      "--codecs <list>",
      "the codecs to try, such as blockwise8,normfloat4:block=128,nested=true",
      codecList,
    )
    .option("--plot <file>", "write a plot of error against bits a weight, as SVG (needs the package vega)")
    .action((model: string, flags: EvaluateFlags) => evaluate(model, flags, invocation));
  addReadingFlags(addOverwriteFlag(addMinElementsFlag(addOutputFlags(command))));
}

async function evaluate(model: string, flags: EvaluateFlags, { output, signal }: Invocation): Promise<void> {
  const { codecs, minElements, plot, overwrite } = flags;
  // Before the work: what cannot be drawn, or written, shows at once.
  const plotter = plot === undefined ? undefined : await openPlotter();
  const file = plot === undefined ? undefined : await PartFile.open(plot, { overwrite });
  try {
    const evaluation = await evaluateModel(model, { ...readingOptions(flags), codecs, minElements, signal });
    if (plotter && file) {
      await file.write(Buffer.from(await plotter.draw(evaluation)), 0);
      await file.finish();
    }
    output.result(output.json ? JSON.stringify(evaluation) : evaluationText(evaluation));
  } finally {
    // Of a finished file nothing is taken back.
    await file?.abort();
  }
}
