import { DEFAULT_LIMITS } from "@tensorwire/core";
import type { Command } from "commander";
import { MemoryBudget } from "../budget/memory-budget.js";
import type { TransferOptions } from "../options.js";
import { addOutputFlags } from "./output-flags.js";
import { windowOption } from "./reading-flags.js";
import { sizeOption } from "./sizes.js";

/** What the options of moving a model parse to. */
export interface TransferFlags {
  readonly window?: number;
  readonly memory?: number;
  readonly maxModelBytes?: number;
  readonly maxBytesPerSecond?: number;
  readonly idleTimeout?: number;
  readonly stallTimeout?: number;
}

/** Options of every command that moves a model. */
export function addTransferFlags(
  command: Command,
  memory = "a quarter of what it may use, each way",
): Command {
  return addOutputFlags(command)
    .addOption(windowOption())
    .addOption(
      sizeOption(
        "--memory",
        `memory for the buffers of all transfers of the process together (default: ${memory})`,
      ),
    )
    .addOption(sizeOption("--max-model-bytes", "refuse larger models (default 64TiB)"))
    .option("--quiet", "no progress and no summary");
}

export function transferOptions(flags: TransferFlags): TransferOptions {
  const { window, memory, maxModelBytes = DEFAULT_LIMITS.maxModelBytes, maxBytesPerSecond } = flags;
  const budget = memory === undefined ? undefined : new MemoryBudget(memory);
  const timeouts = { idleTimeoutMs: flags.idleTimeout, stallTimeoutMs: flags.stallTimeout };
  return { windowBytes: window, budget, limits: { maxModelBytes }, maxBytesPerSecond, ...timeouts };
}
