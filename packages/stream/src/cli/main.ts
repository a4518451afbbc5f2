import { createRequire } from "node:module";
import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { Command, CommanderError } from "commander";
import { declareAgent } from "./agent.js";
import { declareCompare } from "./compare.js";
import { declareEvaluate } from "./evaluate.js";
import { EXIT_CODES, exitCodeHelp, exitCodeOf } from "./exit-code.js";
import { declareInspect } from "./inspect.js";
import { Interrupt } from "./interrupt.js";
import type { Invocation } from "./invocation.js";
import { Output } from "./output.js";
import { declarePack } from "./pack.js";
import { declareReceive } from "./receive.js";
import { errorJson, errorText } from "./report.js";
import { declareSend } from "./send.js";
import { declareServe } from "./serve.js";
import { declareUnpack } from "./unpack.js";

/** The command `tensorwire`: runs what the arguments say and returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const output = new Output(args.includes("--json"));
  const interrupt = new Interrupt();
  try {
    await declare({ output, signal: interrupt.signal, interrupt }).parseAsync(args, { from: "user" });
    return EXIT_CODES.ok;
  } catch (cause) {
    const error = commandError(cause);
    if (!error) return EXIT_CODES.ok;
    report(error, output);
    return (error.code === "ABORTED" && interrupt.exitCode) || exitCodeOf(error.code);
  } finally {
    await output.flush();
  }
}

function declare(invocation: Invocation): Command {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  const program = new Command("tensorwire")
    .description("Streams large models between machines, one chunk at a time.")
    .version(version)
    .exitOverride()
    // Errors are reported in one place and one form, below.
    .configureOutput({ outputError: () => {} })
    .showSuggestionAfterError()
    .addHelpText("after", `\n${exitCodeHelp()}\n\nSizes are bytes, or powers of 1024 as in 4M and 32MiB.`);
  const transfers = [declareSend, declareReceive, declareServe, declareAgent, declarePack, declareUnpack];
  const measurements = [declareInspect, declareCompare, declareEvaluate];
  for (const declareCommand of [...transfers, ...measurements]) declareCommand(program, invocation);
  return program;
}

/** The failure that ended a command; `undefined` where it was no failure: help and version. */
function commandError(cause: unknown): TensorwireError | undefined {
  if (!(cause instanceof CommanderError)) return asTensorwireError(cause, "INTERNAL");
  if (cause.exitCode === 0) return undefined;
  const message = cause.code === "commander.help" ? "which command?" : cause.message.replace(/^error: /, "");
  return new TensorwireError("INVALID_ARGUMENT", message, { cause });
}

function report(error: TensorwireError, output: Output): void {
  output.note(errorText(error));
  if (process.env.TENSORWIRE_DEBUG) output.note(debugText(error));
  if (output.json) output.result(errorJson(error));
}

/** Stacks, down to the first cause. */
function debugText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.stack ?? String(error);
  return error.cause === undefined ? stack : `${stack}\ncaused by ${debugText(error.cause)}`;
}
