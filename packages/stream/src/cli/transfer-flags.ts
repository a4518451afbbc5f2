import { DEFAULT_LIMITS } from "@tensorwire/core";
import type { Command } from "commander";
import type { TransferOptions } from "../options.js";
import { addOutputFlags } from "./output-flags.js";
import { windowOption } from "./reading-flags.js";
import { sizeOption } from "./sizes.js";

/** What the options of moving a model parse to. */
export interface TransferFlags {
  readonly window?: number;
  readonly maxModelBytes?: number;
  readonly maxBytesPerSecond?: number;
  readonly idleTimeout?: number;
  readonly stallTimeout?: number;
}

/** Options of every command that moves a model. */
export function addTransferFlags(command: Command): Command {
  return addOutputFlags(command)
    .addOption(windowOption())
    .addOption(sizeOption("--max-model-bytes", "refuse larger models (default 64TiB)"))
    .option("--quiet", "no progress and no summary");
}

export function transferOptions(flags: TransferFlags): TransferOptions {
  const { window, maxModelBytes = DEFAULT_LIMITS.maxModelBytes, maxBytesPerSecond } = flags;
  const timeouts = { idleTimeoutMs: flags.idleTimeout, stallTimeoutMs: flags.stallTimeout };
  return { windowBytes: window, limits: { maxModelBytes }, maxBytesPerSecond, ...timeouts };
}
