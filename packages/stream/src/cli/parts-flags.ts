import { type Command, Option } from "commander";
import type { ReceiveOptions } from "../receive-options.js";
import { parseDuration } from "./durations.js";
import { parseSize } from "./sizes.js";

/** What the options of unfinished files parse to. */
export interface PartsFlags {
  readonly resume?: boolean;
  readonly partsMaxAge?: number;
  readonly partsMaxBytes?: number;
}

/** Options of commands that write a model which a later call may go on with. */
export function addPartsFlags(command: Command): Command {
  return command
    .option("--resume", "go on from what an interrupted call left, and leave what this one has (default)")
    .option("--no-resume", "start clean; leave nothing if interrupted")
    .addOption(
      new Option(
        "--parts-max-age <time>",
        "remove unfinished files of this folder that are older (default 7d)",
      ).argParser((text) => parseDuration(text, "--parts-max-age")),
    )
    .addOption(
      new Option(
        "--parts-max-bytes <size>",
        "remove the oldest of them beyond so many bytes (default: no bound)",
      ).argParser((text) => parseSize(text, "--parts-max-bytes")),
    );
}

export function partsOptions({
  resume,
  partsMaxAge,
  partsMaxBytes,
}: PartsFlags): Pick<ReceiveOptions, "resume" | "parts"> {
  return { resume, parts: { maxAgeMs: partsMaxAge, maxBytes: partsMaxBytes } };
}
