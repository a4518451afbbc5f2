import { TensorwireError } from "./errors.js";

const KiB = 1024;
const MiB = 1024 * KiB;

/** What a peer, or a file, may announce. Each default's reason stands in `docs/limits.md`. */
export interface Limits {
  /** Bytes of a frame's body. */
  readonly maxFrameBytes: number;
  /** Bytes of a manifest's body; the source's own header is part of it. */
  readonly maxManifestBytes: number;
  /** Bytes of any other control frame's body. */
  readonly maxControlBytes: number;
  /** Chunk records in one DATA frame. */
  readonly maxRecords: number;
  /** Tensors of a model. */
  readonly maxTensors: number;
  /** Bytes of a tensor's name in UTF-8. */
  readonly maxNameBytes: number;
  /** Dimensions of a shape. */
  readonly maxRank: number;
  /** Chunks of a whole transfer. */
  readonly maxChunks: number;
  /** Source bytes of one chunk. */
  readonly maxChunkBytes: number;
  /** Source bytes of a whole model. */
  readonly maxModelBytes: number;
}

/** The limits unless the caller says otherwise. */
export const DEFAULT_LIMITS: Limits = Object.freeze({
  maxFrameBytes: 1024 * MiB,
  maxManifestBytes: 256 * MiB,
  maxControlBytes: 1 * MiB,
  maxRecords: 4096,
  maxTensors: 1_000_000,
  maxNameBytes: 4 * KiB,
  maxRank: 64,
  maxChunks: 1 << 24,
  maxChunkBytes: 512 * MiB,
  maxModelBytes: 64 * 1024 * 1024 * MiB,
});

/** Source bytes of a chunk, and of the window, unless the caller says otherwise. */
export const DEFAULT_CHUNK_BYTES = 4 * MiB;
/** Source bytes that either end may hold at once, unless the caller says otherwise: 32 MiB. */
export const DEFAULT_WINDOW_BYTES = 32 * MiB;

/**
 * The defaults, with the given ones in their place.
 * @throws TensorwireError `INVALID_ARGUMENT` for one that is no count.
 * @example
 * console.log(resolveLimits({ maxTensors: 10 }).maxTensors); // 10
 */
export function resolveLimits(given: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(DEFAULT_LIMITS, name)) {
      throw new TensorwireError("INVALID_ARGUMENT", `there is no limit called ${name}`);
    }
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new TensorwireError("INVALID_ARGUMENT", `limit ${name} must be a positive integer, not ${value}`);
    }
  }
  return { ...DEFAULT_LIMITS, ...given };
}

/**
 * Holds what was announced to a limit.
 * @throws TensorwireError `LIMIT_EXCEEDED` naming the limit, when `value` is over it.
 * @example
 * checkLimit(DEFAULT_LIMITS, "maxTensors", 147, "the number of tensors");
 */
export function checkLimit(limits: Limits, limit: keyof Limits, value: number | bigint, what: string): void {
  if (value > limits[limit]) {
    throw new TensorwireError(
      "LIMIT_EXCEEDED",
      `${what} is ${value}, over the limit ${limit} = ${limits[limit]}; raise that limit if the peer is trusted`,
    );
  }
}
