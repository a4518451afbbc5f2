import { readFile } from "node:fs/promises";
import {
  type CodecSpec,
  DEFAULT_LIMITS,
  DEFAULT_WINDOW_BYTES,
  defaultCodecs,
  FLOAT_DTYPES,
  type FloatDType,
  type Integrity,
  type Policy,
  parsePolicy,
  quote,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import { type Command, Option } from "commander";
import { MemoryBudget } from "../budget/memory-budget.js";
import type { ReadingOptions } from "../fidelity/model-reader.js";
import { resolveChunkBytes, type StreamOptions, type TransferOptions } from "../options.js";
import type { ReceiveOptions } from "../receive-model.js";
import { checkExpectedDigest } from "../session/expected-digest.js";
import { RETRY_DEFAULTS } from "../session/retry.js";
import { checkSeed } from "../session/seed.js";
import { parseDuration } from "./durations.js";
import { type PartsFlags, partsOptions } from "./parts-flags.js";
import { parseSize } from "./sizes.js";
import { TOKEN_VARIABLE } from "./token.js";

/** What the options of all commands parse to. */
export interface Flags extends PartsFlags {
  readonly codec?: CodecSpec;
  readonly policy?: string;
  readonly minElements?: number;
  readonly compress?: "auto" | "never";
  readonly nonFinite?: "exact" | "error";
  readonly seed?: string;
  readonly ifChanged?: "resend" | "restart" | "fail";
  readonly retry?: number;
  readonly integrity?: Integrity;
  readonly digest?: string;
  readonly chunk?: number;
  readonly residuals?: string;
  readonly raw?: boolean;
  readonly window?: number;
  readonly memory?: number;
  readonly maxModelBytes?: number;
  readonly maxBytesPerSecond?: number;
  readonly idleTimeout?: number;
  readonly stallTimeout?: number;
  readonly overwrite?: boolean;
  readonly shardSize?: number;
  readonly outputDtype?: FloatDType;
  readonly listen?: string;
  readonly insecure?: boolean;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsServername?: string;
  readonly tokenFile?: string;
  readonly tokens?: string;
  readonly out?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const size = (flag: string, description: string): Option =>
  new Option(`${flag} <size>`, description).argParser((text) => parseSize(text, flag));

const duration = (flag: string, description: string): Option =>
  new Option(`${flag} <time>`, description).argParser((text) => parseDuration(text, flag));

const windowOption = (): Option =>
  size("--window", "model bytes held at once, at least twice the chunk size (default 32MiB)");

const chunkOption = (): Option => size("--chunk", "model bytes in a chunk (default 4MiB)");

const minElementsOption = (): Option =>
  new Option(
    "--min-elements <n>",
    "smaller tensors travel unencoded (default 4096, 0: none is too small)",
  ).argParser((text) => parseCount(text, "--min-elements"));

export function addMinElementsFlag(command: Command): Command {
  return command.addOption(minElementsOption());
}

/** Options of every command that moves a model. */
export function addTransferFlags(command: Command): Command {
  return addOutputFlags(command)
    .addOption(windowOption())
    .addOption(
      size(
        "--memory",
        "memory for the buffers of all transfers of the process together (default: half of what it may use)",
      ),
    )
    .addOption(size("--max-model-bytes", "refuse larger models (default 64TiB)"))
    .option("--quiet", "no progress and no summary");
}

export function addOutputFlags(command: Command): Command {
  return command.option("--json", "print one JSON object, last, instead of text");
}

/** Options of commands that read models, and send them nowhere. */
export function addReadingFlags(command: Command): Command {
  return command.addOption(windowOption()).addOption(chunkOption());
}

/** Options of commands that encode one model. */
export function addEncodeFlags(command: Command): Command {
  return addCodecFlags(command)
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
        .argParser(parseCodec)
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
    .addOption(
      new Option("--seed <hex>", "16 digits, for codecs that round at random (default: drawn)").argParser(
        parseSeed,
      ),
    )
    .addOption(integrityOption("hash chunks with SHA-256 too; a digest against people, not accidents alone"))
    .addOption(chunkOption());
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

/** Options of commands that write a model. */
export function addWriteFlags(command: Command): Command {
  return addOverwriteFlag(command)
    .addOption(size("--shard-size", "write safetensors shards of at most this size, and an index"))
    .addOption(
      new Option("--output-dtype <dtype>", `convert float tensors: ${FLOAT_DTYPES.join(", ")}`).argParser(
        parseFloatDType,
      ),
    );
}

const integrityOption = (description: string): Option =>
  new Option("--integrity <hash>", `sha256: ${description} (default: xxh64)`).choices(["xxh64", "sha256"]);

/** Options of commands that take a model from somewhere. */
export function addIntegrityFlags(command: Command): Command {
  return command
    .addOption(integrityOption("refuse a model that is not hashed with SHA-256"))
    .addOption(
      new Option("--digest <digest>", "what the model's must be: 16 digits, or sha256: and 64").argParser(
        parseDigest,
      ),
    );
}

export function addOverwriteFlag(command: Command): Command {
  return command.option("--overwrite", "replace what exists");
}

/** Options of commands that have a peer, which they dial or wait for. */
export function addPeerFlags(command: Command): Command {
  return addListeningFlags(command)
    .option(
      "--token-file <file>",
      `a file with the token to show to the peer that is dialled (default: $${TOKEN_VARIABLE}); never in clear text beyond loopback`,
    )
    .option("--tls-servername <name>", "the name that the peer's certificate must have (default: the host)");
}

/** Options of commands that can wait for peers. */
export function addListeningFlags(command: Command): Command {
  return command
    .option(
      "--listen <where>",
      "where to wait for peers: host:port, or a ws://, wss://, http://, https://, tcp://, tls:// or unix:/ URL; port 0 takes a free one",
    )
    .addOption(
      new Option(
        "--retry <n>",
        `after an interruption, connect again, or with --listen wait for the next peer, and go on: at most n times in a row that bring nothing (default ${RETRY_DEFAULTS.attempts}, 0: never)`,
      ).argParser((text) => parseCount(text, "--retry")),
    )
    .addOption(size("--max-bytes-per-second", "leave room on the line for others (default: no bound)"))
    .option("--tokens <file>", "JSON: who may come in, by the tokens that they show, and what they may do")
    .addOption(
      duration(
        "--idle-timeout",
        "a peer that is silent for so long, without a heartbeat, is gone (default 2m)",
      ),
    )
    .addOption(
      duration(
        "--stall-timeout",
        "give a peer up that lives, but moves nothing for so long (default: never; serve: 10m)",
      ),
    )
    .option(
      "--insecure",
      "listen beyond loopback without credentials, or take them in clear text: any peer that reaches the port is taken",
    )
    .option(
      "--tls-ca <file>",
      "PEM: who vouches for the peer's certificate; with --listen, peers must have one of it",
    )
    .option("--tls-cert <file>", "PEM: this end's certificate; with --listen, makes host:port a wss: URL")
    .option("--tls-key <file>", "PEM: the key of --tls-cert");
}

export function transferOptions(flags: Flags): TransferOptions {
  const { window, memory, maxModelBytes = DEFAULT_LIMITS.maxModelBytes, maxBytesPerSecond } = flags;
  const budget = memory === undefined ? undefined : new MemoryBudget(memory);
  const timeouts = { idleTimeoutMs: flags.idleTimeout, stallTimeoutMs: flags.stallTimeout };
  return { windowBytes: window, budget, limits: { maxModelBytes }, maxBytesPerSecond, ...timeouts };
}

export function readingOptions({ window, chunk }: Flags): ReadingOptions {
  return { windowBytes: window, chunkBytes: chunk };
}

/** Checked here and now: whoever waits for a peer hears of a mistake before the peer comes. */
export async function streamOptions(flags: Flags): Promise<StreamOptions> {
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

export function receiveOptions(flags: Flags): ReceiveOptions {
  const { overwrite, shardSize, outputDtype, integrity, digest: expectedDigest } = flags;
  const where = { overwrite, maxShardBytes: shardSize, ...partsOptions(flags) };
  return { ...transferOptions(flags), ...where, outputDtype, integrity, expectedDigest };
}

/**
 * `blockwise8,normfloat4:block=128,nested=true`: what has an = and no colon before it is one more parameter of the codec
 * before.
 */
export function codecList(text: string): CodecSpec[] {
  const codecs: string[] = [];
  for (const part of text.split(",")) {
    const codec = codecs.at(-1);
    if (codec !== undefined && part.includes("=") && !part.includes(":")) {
      codecs[codecs.length - 1] = `${codec}${codec.includes(":") ? "," : ":"}${part}`;
    } else codecs.push(part);
  }
  return codecs.map(parseCodec);
}

/** `normfloat4`, or `normfloat4:block=128,other=true`. */
function parseCodec(text: string): CodecSpec {
  const colon = text.indexOf(":");
  if (colon < 0) return defaultCodecs.resolve(text);
  const parameters = text.slice(colon + 1).split(",");
  const spec = Object.fromEntries(parameters.map((parameter) => parseParameter(parameter, text)));
  return defaultCodecs.resolve({ ...spec, name: text.slice(0, colon) });
}

function parseParameter(parameter: string, text: string): [string, number | boolean | string] {
  const match = /^(\w+)=(\S+)$/.exec(parameter);
  if (!match || match[1] === "name") {
    throw new TensorwireError("INVALID_ARGUMENT", `--codec ${quote(text)}: parameters look like block=128`);
  }
  const [, name = "", value = ""] = match;
  // Its digits can look like a number, and it is none.
  if (name === "seed") return [name, value];
  if (value === "true" || value === "false") return [name, value === "true"];
  const number = Number(value);
  return [name, Number.isNaN(number) ? value : number];
}

function parseSeed(text: string): string {
  checkSeed(text);
  return text;
}

function parseDigest(text: string): string {
  const digest = text.toLowerCase();
  checkExpectedDigest(digest);
  return digest;
}

function parseFloatDType(text: string): FloatDType {
  const dtype = FLOAT_DTYPES.find((name) => name === text.toUpperCase());
  if (dtype) return dtype;
  const known = FLOAT_DTYPES.join(", ");
  throw new TensorwireError("INVALID_ARGUMENT", `--output-dtype takes ${known}, not ${quote(text)}`);
}

function parseCount(text: string, flag: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(count)) return count;
  throw new TensorwireError("INVALID_ARGUMENT", `${flag} takes a whole number, not ${quote(text)}`);
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
