import type { Command, Option } from "commander";
import type { ReadingOptions } from "../fidelity/model-reader.js";
import { sizeOption } from "./sizes.js";

/** What the options of reading a model chunk by chunk parse to. */
export interface ReadingFlags {
  readonly window?: number;
  readonly chunk?: number;
}

export const windowOption = (): Option =>
  sizeOption("--window", "model bytes held at once, at least twice the chunk size (default 32MiB)");

export const chunkOption = (): Option => sizeOption("--chunk", "model bytes in a chunk (default 4MiB)");

/** Options of commands that read models, and send them nowhere. */
export function addReadingFlags(command: Command): Command {
  return command.addOption(windowOption()).addOption(chunkOption());
}

export function readingOptions({ window, chunk }: ReadingFlags): ReadingOptions {
  return { windowBytes: window, chunkBytes: chunk };
}
