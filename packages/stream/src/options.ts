import {
  type CodecBackend,
  type CodecRegistry,
  type CodecSpec,
  DEFAULT_CHUNK_BYTES,
  DEFAULT_WINDOW_BYTES,
  defaultCodecs,
  type Integrity,
  type Limits,
  MIN_CHUNK_BYTES,
  type Policy,
  quote,
  resolveLimits,
  type SlabAlignment,
  TensorwireError,
} from "@tensorwire/core";
import { addressOffset } from "@tensorwire/quant-native";
import type { GpuDevice } from "@tensorwire/quant-native/gpu";
import type { MemoryBudget } from "./budget/memory-budget.js";
import { checkRate } from "./channel/throttled.js";
import type { DialWait } from "./channel/dial-wait.js";
import type { DialOptions } from "./channel/websocket.js";
import { resolveBackend } from "./device-backend.js";
import type { Logger } from "./diagnostics/logger.js";
import type { ProgressEvent } from "./session/progress.js";
import { type RetryOptions, resolveRetry } from "./session/retry.js";
import { checkSeed } from "./session/seed.js";
import { resolveTimeouts, type TimeoutOptions, type Timeouts } from "./session/timeouts.js";

/** Options of both ends. */
export interface TransferOptions extends TimeoutOptions {
  /** Source bytes that this end may hold at once. Default 32 MiB. At least twice the chunk size. */
  readonly windowBytes?: number | undefined;
  /** Cancels the transfer; the peer is told. */
  readonly signal?: AbortSignal | undefined;
  /** Called as chunks are done, at most every 100 ms, and once at the end. */
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
  /** What a peer may announce, see `docs/limits.md`. */
  readonly limits?: Partial<Limits> | undefined;
  /**
   * Where codecs run: `"auto"` is the CPU (native, or portable where the addon is missing), and the device for what lies in
   * its buffers; `"cpu"` reads those back first; `"gpu"` takes the device for everything; or a backend. Default `"auto"`.
   */
  readonly backend?: CodecBackend | "auto" | "cpu" | "gpu" | undefined;
  /** The `GPUDevice` whose buffers tensors lie in, or go to. */
  readonly device?: GpuDevice | undefined;
  /** Codecs that this end knows. Default: all of this library. */
  readonly registry?: CodecRegistry | undefined;
  /**
   * Bytes of the channel that this end moves in a second, at most, each way: room for others on a shared line. Default: no
   * bound. Of several transfers on one connection the first decides.
   */
  readonly maxBytesPerSecond?: number | undefined;
  /**
   * After an interruption, connect again and go on from there: to a URL, or, with a listener, with the next peer that comes.
   * Default false. `true` stands for the defaults of `RetryOptions`.
   */
  readonly retry?: RetryOptions | boolean | undefined;
  /** Where this transfer, and no other, is logged: pino, `console`, or what takes an object and a message. Default: nowhere. */
  readonly logger?: Logger | undefined;
  /**
   * The memory that this transfer takes its own from, together with all that name the same. Default: one of the process for
   * what it sends, one for what it receives, each a quarter of the memory that it may use. Where there is less, a transfer takes less than its window, or waits.
   */
  readonly budget?: MemoryBudget | undefined;
  /** How a URL is dialled. */
  readonly dial?: (Omit<DialOptions, "signal"> & DialWait) | undefined;
}

/** Options of `streamModel`. */
export interface StreamOptions extends TransferOptions {
  /** The codec of every float tensor that is large enough, by name or with parameters. Default `none`. */
  readonly codec?: string | CodecSpec | undefined;
  /** Which codec each tensor gets; instead of `codec`. */
  readonly policy?: Policy | undefined;
  /** Tensors with fewer elements travel as `none`. Default 4096; 0 turns it off. */
  readonly minElements?: number | undefined;
  /**
   * `"auto"` packs every payload that becomes smaller by it; `"never"` only those of codecs that are made for it
   * (`lossless`). Default `"never"`. An artifact's chunks stay packed as they are.
   */
  readonly compress?: "auto" | "never" | undefined;
  /**
   * A chunk with a NaN, an infinity or a value that its codec cannot carry travels exactly (`"exact"`), or ends the
   * transfer with `VALUE_NOT_FINITE` (`"error"`). Default `"exact"`. Of an artifact that is sent as it is, nothing is looked
   * at: what its chunks hold was decided when it was made.
   */
  readonly nonFinite?: "exact" | "error" | undefined;
  /**
   * 16 hexadecimal digits, for codecs that round at random and have no seed of their own. Default: made of the version
   * token, so that an interrupted transfer can go on; drawn anew for each transfer where there is none.
   */
  readonly seed?: string | undefined;
  /**
   * `"sha256"` hashes every chunk with SHA-256 too: a digest that nobody can make another model for. Default `"xxh64"`, which
   * finds accidents. An artifact that is sent as it is keeps its own, which may not be less than what is asked.
   */
  readonly integrity?: Integrity | undefined;
  /**
   * A version token of your own, 1 to 128 characters, for a source that has none, such as tensors in memory: the same as
   * long as the model is, and another after any change, and at any other sender. What a receiver holds of the same version
   * is taken for right, and not made again to be compared.
   */
  readonly version?: string | undefined;
  /**
   * What becomes of the chunks that a receiver holds from an interrupted transfer, when the source is not known to be in the
   * same state: `"resend"` makes them again, and sends those that differ; `"restart"` sends all of them again; `"fail"` ends
   * with `SOURCE_CHANGED` at the first that differs. Default `"resend"`.
   */
  readonly ifChanged?: "resend" | "restart" | "fail" | undefined;
  /**
   * Error feedback: the path of a file that carries what payloads leave out from one transfer to the next. It is created
   * by the first, and replaced when the receiver has confirmed (or the artifact is complete); a transfer that fails leaves
   * it as it was. It belongs to one codec plan: the same tensors, codecs and chunk size.
   */
  readonly residuals?: string | undefined;
  /** Source bytes of a chunk. Default 4 MiB, or less where a window asks for it. */
  readonly chunkBytes?: number | undefined;
  /** Replace an artifact that exists. Default false. */
  readonly overwrite?: boolean | undefined;
}

export interface ResolvedOptions extends Timeouts {
  readonly windowBytes: number;
  readonly limits: Limits;
  readonly backend: CodecBackend;
  readonly registry: CodecRegistry;
  /** None: the process's own. */
  readonly budget: MemoryBudget | undefined;
  readonly alignment: SlabAlignment | undefined;
  readonly maxBytesPerSecond: number | undefined;
  readonly retry: RetryOptions | undefined;
}

/** Fills in the defaults of both ends. @throws TensorwireError `INVALID_ARGUMENT`. */
export async function resolveOptions(options: TransferOptions): Promise<ResolvedOptions> {
  const windowBytes = options.windowBytes ?? DEFAULT_WINDOW_BYTES;
  if (!Number.isSafeInteger(windowBytes) || windowBytes < 2 * MIN_CHUNK_BYTES) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `windowBytes must be an integer of at least ${2 * MIN_CHUNK_BYTES}, two of the smallest chunks, not ${windowBytes}`,
    );
  }
  checkRate(options.maxBytesPerSecond);
  const registry = options.registry ?? defaultCodecs;
  return {
    windowBytes,
    limits: resolveLimits(options.limits),
    backend: await resolveBackend(options, registry),
    registry,
    budget: options.budget,
    alignment: slabAlignment(),
    maxBytesPerSecond: options.maxBytesPerSecond,
    retry: resolveRetry(options.retry),
    ...resolveTimeouts(options),
  };
}

/** @throws TensorwireError `INVALID_ARGUMENT` for words and seeds that are none, and for an artifact's name. */
export function checkStreamOptions(options: StreamOptions): void {
  const { compress, nonFinite, seed, residuals, integrity, ifChanged, version } = options;
  checkWord("compress", compress, ["auto", "never"]);
  checkWord("nonFinite", nonFinite, ["exact", "error"]);
  checkWord("integrity", integrity, ["xxh64", "sha256"]);
  checkWord("ifChanged", ifChanged, ["resend", "restart", "fail"]);
  checkVersion(version);
  checkSeed(seed);
  // It can be the artifact that this very transfer writes: whichever of the two got its name last would replace the other.
  if (residuals?.endsWith(".twire")) {
    const message = `${quote(residuals)} is the name of an artifact: give residuals a file of their own`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
}

function checkVersion(version: unknown): void {
  if (version === undefined) return;
  if (typeof version === "string" && version.length >= 1 && version.length <= 128) return;
  throw new TensorwireError("INVALID_ARGUMENT", "a version is a string of 1 to 128 characters");
}

export function checkWord(option: string, given: string | undefined, words: readonly string[]): void {
  if (given === undefined || words.includes(given)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${option} is ${words.slice(0, -1).join(", ")} or ${words.at(-1)}, not ${quote(String(given))}`,
  );
}

/** The chunk size: as asked, else the default or what the smaller window takes. */
export function resolveChunkBytes(asked: number | undefined, windowBytes: number, peerMax: number): number {
  if (asked === undefined) return Math.min(DEFAULT_CHUNK_BYTES, Math.floor(windowBytes / 2), peerMax);
  if (!Number.isSafeInteger(asked) || asked < MIN_CHUNK_BYTES || asked > windowBytes / 2) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `chunkBytes must be an integer from ${MIN_CHUNK_BYTES} to half the window, ${Math.floor(windowBytes / 2)}, not ${asked}`,
    );
  }
  if (asked > peerMax) {
    throw new TensorwireError(
      "LIMIT_EXCEEDED",
      `chunkBytes is ${asked}; the peer takes at most ${peerMax}: lower it`,
    );
  }
  return asked;
}

function slabAlignment(): SlabAlignment | undefined {
  if (addressOffset(new ArrayBuffer(64), 64) === undefined) return undefined;
  return (buffer) => (64 - addressOffset(buffer, 64)!) % 64;
}
