import type { Command } from "commander";

/** What the options of what is printed parse to. */
export interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addOutputFlags(command: Command): Command {
  return command.option("--json", "print one JSON object, last, instead of text");
}
