import { FLOAT_DTYPES, type FloatDType, quote, TensorwireError } from "@tensorwire/core";
import { type Command, Option } from "commander";
import type { ReceiveOptions } from "../receive-options.js";
import type { IntegrityFlags } from "./integrity-flags.js";
import { type PartsFlags, partsOptions } from "./parts-flags.js";
import { sizeOption } from "./sizes.js";
import { type TransferFlags, transferOptions } from "./transfer-flags.js";

/** What the options of writing a model parse to. */
export interface WriteFlags extends PartsFlags {
  readonly overwrite?: boolean;
  readonly shardSize?: number;
  readonly outputDtype?: FloatDType;
  readonly out?: string;
}

/** Options of commands that write a model. */
export function addWriteFlags(command: Command): Command {
  return addOverwriteFlag(command)
    .addOption(sizeOption("--shard-size", "write safetensors shards of at most this size, and an index"))
    .addOption(
      new Option("--output-dtype <dtype>", `convert float tensors: ${FLOAT_DTYPES.join(", ")}`).argParser(
        parseFloatDType,
      ),
    );
}

export function addOverwriteFlag(command: Command): Command {
  return command.option("--overwrite", "replace what exists");
}

export function receiveOptions(flags: WriteFlags & TransferFlags & IntegrityFlags): ReceiveOptions {
  const { overwrite, shardSize, outputDtype, integrity, digest: expectedDigest } = flags;
  const where = { overwrite, maxShardBytes: shardSize, ...partsOptions(flags) };
  return { ...transferOptions(flags), ...where, outputDtype, integrity, expectedDigest };
}

function parseFloatDType(text: string): FloatDType {
  const dtype = FLOAT_DTYPES.find((name) => name === text.toUpperCase());
  if (dtype) return dtype;
  const known = FLOAT_DTYPES.join(", ");
  throw new TensorwireError("INVALID_ARGUMENT", `--output-dtype takes ${known}, not ${quote(text)}`);
}
