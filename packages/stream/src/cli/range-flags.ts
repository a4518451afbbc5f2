import type { Command } from "commander";
import type { ReceiveOptions } from "../receive-options.js";
import { DEFAULT_CONCURRENCY } from "../remote/concurrency.js";
import { countOption } from "./counts.js";

/** What the options of fetching from a web server parse to. */
export interface RangeFlags {
  readonly tensors?: readonly string[];
  readonly concurrency?: number;
}

/** Options of commands that can fetch an artifact from any web server. */
export function addRangeFlags(command: Command): Command {
  return command
    .option(
      "--tensors <pattern>",
      "fetch only the tensors of such names: * and ? as in a policy; more than once for more patterns",
      (pattern: string, others: readonly string[] = []) => [...others, pattern],
    )
    .addOption(
      countOption(
        "--concurrency",
        `of an artifact at a URL, fetch so many parts at once (default ${DEFAULT_CONCURRENCY})`,
      ),
    );
}

export function rangeOptions({
  tensors,
  concurrency,
}: RangeFlags): Pick<ReceiveOptions, "tensors" | "concurrency"> {
  return { tensors, concurrency };
}
