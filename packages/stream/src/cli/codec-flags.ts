import { readFile } from "node:fs/promises";
import {
  type CodecSpec,
  DEFAULT_WINDOW_BYTES,
  defaultCodecs,
  type Policy,
  parsePolicy,
  quote,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import { type Command, Option } from "commander";
import { resolveChunkBytes, type StreamOptions } from "../options.js";
import { checkSeed } from "../session/seed.js";
import { parseSpecText } from "../spec-text.js";
import { countOption } from "./counts.js";
import { type IntegrityFlags, integrityOption } from "./integrity-flags.js";
import { chunkOption, type ReadingFlags } from "./reading-flags.js";
import { type TransferFlags, transferOptions } from "./transfer-flags.js";

/** What the options of encoding a model parse to. */
export interface CodecFlags extends ReadingFlags {
  readonly codec?: CodecSpec;
  readonly policy?: string;
  readonly minElements?: number;
  readonly compress?: "auto" | "never";
  readonly nonFinite?: "exact" | "error";
  readonly seed?: string;
  readonly ifChanged?: "resend" | "restart" | "fail";
  readonly residuals?: string;
  readonly raw?: boolean;
}

const minElementsOption = (): Option =>
  countOption("--min-elements", "smaller tensors travel unencoded (default 4096, 0: none is too small)");

export function addMinElementsFlag(command: Command): Command {
  return command.addOption(minElementsOption());
}

/** Options of commands that encode one model. */
export function addEncodeFlags(command: Command): Command {
  return addSeedFlag(addCodecFlags(command))
    .option("--residuals <file>", "carry what codecs leave out to the next transfer, in this file")
    .addOption(
      new Option("--raw", "the file's bytes as they are, whatever its name says").conflicts([
        "codec",
        "policy",
        "minElements",
        "residuals",
      ]),
    );
}

/** Options of commands that encode. */
export function addCodecFlags(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--codec <name>",
        `${defaultCodecs.names().join(", ")}; parameters as in normfloat4:block=128`,
      )
        .argParser(parseSpecText)
        .conflicts("policy"),
    )
    .option("--policy <file>", "JSON: which codec each tensor gets, by name, dtype and size")
    .addOption(minElementsOption())
    .addOption(
      new Option(
        "--compress <when>",
        "auto: pack (zstd) whatever becomes smaller; never: only what a codec is made for (default)",
      ).choices(["auto", "never"]),
    )
    .addOption(
      new Option(
        "--non-finite <what>",
        "chunks with NaN, infinity or values out of range travel exact (default), or are an error",
      ).choices(["exact", "error"]),
    )
    .addOption(integrityOption("hash chunks with SHA-256 too; a digest against people, not accidents alone"))
    .addOption(chunkOption());
}

/** Options of commands that encode models of one kind: a seed for all. */
export function addSeedFlag(command: Command): Command {
  return command.addOption(
    new Option("--seed <hex>", "16 digits, for codecs that round at random (default: drawn)").argParser(
      parseSeed,
    ),
  );
}

/** Options of commands that send what an earlier call may have begun to. */
export function addChangedFlag(command: Command): Command {
  return command.addOption(
    new Option(
      "--if-changed <what>",
      "where the receiver has chunks of another state of the model: resend those that differ (default), restart with all, or fail",
    ).choices(["resend", "restart", "fail"]),
  );
}

/** Checked here and now: whoever waits for a peer hears of a mistake before the peer comes. */
export async function streamOptions(
  flags: CodecFlags & TransferFlags & IntegrityFlags,
): Promise<StreamOptions> {
  const {
    codec,
    minElements,
    chunk,
    compress,
    nonFinite,
    seed,
    integrity,
    ifChanged,
    residuals,
    window = DEFAULT_WINDOW_BYTES,
  } = flags;
  if (chunk !== undefined) resolveChunkBytes(chunk, window, Number.POSITIVE_INFINITY);
  const policy = flags.policy === undefined ? undefined : await readPolicy(flags.policy);
  const encoding = { codec, policy, minElements, compress, nonFinite, seed, integrity, ifChanged, residuals };
  return { ...transferOptions(flags), ...encoding, chunkBytes: chunk };
}

function parseSeed(text: string): string {
  checkSeed(text);
  return text;
}

async function readPolicy(path: string): Promise<Policy> {
  try {
    const policy = parsePolicy(JSON.parse(await readFile(path, "utf8")));
    resolvePolicy(policy, []);
    return policy;
  } catch (cause) {
    const code = cause instanceof TensorwireError ? cause.code : "INVALID_ARGUMENT";
    throw new TensorwireError(code, `--policy ${quote(path)}: ${(cause as Error).message}`, { cause });
  }
}
