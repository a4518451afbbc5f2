import {
  type FloatDType,
  type Integrity,
  isAskable,
  isDType,
  isFloatDType,
  type Manifest,
  MAX_ASKED_CHARACTERS,
  NamePatterns,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import type { GpuDevice } from "@tensorwire/quant-native/gpu";
import { checkParts, type PartsOptions } from "./journal/expiry.js";
import { checkWord, type TransferOptions } from "./options.js";
import { checkConcurrency } from "./remote/concurrency.js";
import { checkExpectedDigest } from "./session/expected-digest.js";
import type { Sink } from "./sink/sink.js";

/** What `to` says of a model whose tensors go to buffers of `device`. */
export const DEVICE = "gpu";

/** Options of `receiveModel`. */
export interface ReceiveOptions extends TransferOptions {
  /**
   * Where the model goes: a path (`*.safetensors`; `*.twire` keeps it encoded; a raw file goes to any path), a sink, or a
   * function that says so when it is known what comes; or `"gpu"`, for tensors in buffers of `device`, each of which the
   * caller gets by iterating.
   * Without it the caller iterates.
   */
  readonly to?: string | Sink | ((manifest: Manifest) => string | Sink | Promise<string | Sink>) | undefined;
  /** Replace a file that exists. Default false. */
  readonly overwrite?: boolean | undefined;
  /**
   * Go on from what an interrupted transfer of the same model left at the path, and leave what this one has if it is
   * interrupted. Default true; false starts clean, and leaves nothing.
   */
  readonly resume?: boolean | undefined;
  /** How long unfinished files stay in the path's folder, and how many bytes of them. Default: 7 days, any number. */
  readonly parts?: PartsOptions | undefined;
  /** Write shards of at most this many bytes, with an index, instead of one file. */
  readonly maxShardBytes?: number | undefined;
  /** Convert every float tensor to this dtype; others keep theirs. Default: each keeps its own. */
  readonly outputDtype?: FloatDType | undefined;
  /** `"sha256"` refuses a model that is not hashed with it (`INTEGRITY_REQUIRED`). Default: whatever the sender chose. */
  readonly integrity?: Integrity | undefined;
  /**
   * The digest that the model must have, 16 hexadecimal digits or `sha256:` and 64: another model is refused
   * (`DIGEST_MISMATCH`) before its file gets its name. `sha256:` demands that integrity too. Tensors and chunks that are
   * iterated over come before it is known.
   */
  readonly expectedDigest?: string | undefined;
  /**
   * Which tensors, by patterns as of `select`: the peer is asked for those, and sends no others; of an artifact on a web server
   * only their ranges are fetched. Default: all. At most 4096 characters together.
   */
  readonly tensors?: readonly string[] | undefined;
  /**
   * Connections at once for this one model, to the URL of a server: where one does not fill the way. They have one window together,
   * and `retry` makes the one again that breaks. Default 1; of an artifact on a web server, which is fetched by ranges, 4.
   */
  readonly concurrency?: number | undefined;
  /** When iterating over tensors, lend one reused buffer until the next step. Default false. */
  readonly borrow?: boolean | undefined;
}

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkReceiveOptions(options: ReceiveOptions): void {
  const { outputDtype, integrity, expectedDigest, parts, tensors, concurrency, to, device } = options;
  if (to === DEVICE) checkDevice(device);
  checkConcurrency(concurrency);
  if (tensors !== undefined) checkTensors(tensors);
  checkWord("integrity", integrity, ["xxh64", "sha256"]);
  checkExpectedDigest(expectedDigest);
  if (parts) checkParts(parts);
  if (outputDtype === undefined || (isDType(outputDtype) && isFloatDType(outputDtype))) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `outputDtype can be F16, BF16, F32 or F64, not ${quote(String(outputDtype))}`,
  );
}

/** @throws TensorwireError `INVALID_ARGUMENT` where there is no device to go to. */
export function checkDevice(device: GpuDevice | undefined): asserts device is GpuDevice {
  if (device !== undefined) return;
  const message = `to is "${DEVICE}", and there is no device: give one, of openGpuDevice() or navigator.gpu (a file of that name is "./${DEVICE}")`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

function checkTensors(patterns: readonly string[]): void {
  new NamePatterns(patterns);
  if (isAskable(patterns)) return;
  const message = `tensors are asked for by patterns of at most ${MAX_ASKED_CHARACTERS} characters in all: have fewer, and more general ones`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}
