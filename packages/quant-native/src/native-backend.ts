import {
  type Answer,
  byteLength,
  type CodecBackend,
  type CodecRegistry,
  type CodecSpec,
  type DecodeJob,
  DTYPE_BITS,
  type DType,
  defaultCodecs,
  type EncodedChunk,
  type EncodeJob,
  type ErrorCode,
  isFloatDType,
  type Packed,
  type PackJob,
  PortableBackend,
  TensorwireError,
  UNNAMED,
  type UnpackJob,
} from "@tensorwire/core";
import { onAbort } from "./abort-listener.js";
import { type Addon, type EncodeResult, type JobCallback, loadAddon, VERDICT } from "./addon.js";
import { type NativeSpec, nativeSpec } from "./native-spec.js";
import { nodePacker } from "./packer.js";

const RAW = 0;
const DTYPE_NUMBERS = { F16: 1, BF16: 2, F32: 3, F64: 4 } as const;
/** `lossless` looks at nothing but how wide an element is: any dtype is one of these to it. */
const WIDTH_NUMBERS: Readonly<Record<number, number>> = {
  8: RAW,
  16: DTYPE_NUMBERS.F16,
  32: DTYPE_NUMBERS.F32,
  64: DTYPE_NUMBERS.F64,
};

/** Jobs below this run on the calling thread: handing one to another costs 25 µs, which is 256 KiB at 10 GB/s. */
const QUEUED_BYTES = 256 * 1024;
/** The same for jobs that pack or unpack, at about 1 GB/s. */
const QUEUED_PACKING_BYTES = 32 * 1024;

/** Parts of a payload that the addon takes at once. */
const MOST_SEGMENTS = 16;

/** Codecs in C++ on libuv's worker threads, with the kernels of one instruction set. */
class NativeBackend implements CodecBackend {
  readonly name: string;
  readonly #addon: Addon;
  readonly #isa: number;
  readonly #codecs: CodecRegistry;
  readonly #portable: PortableBackend;
  /** A transfer's chunks share a few specs: each is resolved once. Null stands for one that the reference runs. */
  readonly #specs = new WeakMap<CodecSpec, NativeSpec | null>();

  constructor(addon: Addon, isa: number, codecs: CodecRegistry) {
    this.name = `native-${addon.isas[isa]}`;
    this.#addon = addon;
    this.#isa = isa;
    this.#codecs = codecs;
    this.#portable = new PortableBackend(codecs, nodePacker(addon));
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    return rejected(() => this.#encode(job));
  }

  #encode(job: EncodeJob): Answer<EncodedChunk> {
    const { dtype, elements, source, target, packed, at = UNNAMED, signal } = job;
    const spec = this.#spec(job.codec);
    if (spec === undefined || !spec.codec.supports(dtype) || (packed !== undefined && !this.#addon.packs)) {
      return this.#portable.encode(job);
    }
    const { codec, block, options } = spec;
    const bytes = byteLength(dtype, elements);
    const raw = codec.name === "none";
    const number = raw ? RAW : codec.name === "lossless" ? widthNumber(dtype) : dtypeNumber(dtype);
    const count = raw ? bytes : elements;
    const [tensor, first] = spec.stochastic ? [at.tensor, at.first] : [];
    const views = packed === undefined ? [source, target] : [source, target, packed];
    const queue = bytes >= (packed === undefined ? QUEUED_BYTES : QUEUED_PACKING_BYTES);
    const encoded = this.#run(queue, views, signal, (callback?: JobCallback<EncodeResult>) => {
      const { id } = codec;
      // What is left out costs nothing to check.
      if (callback === undefined && options === undefined && packed === undefined) {
        return this.#addon.encode(this.#isa, id, block, number, count, source, target);
      }
      return this.#addon.encode(
        this.#isa,
        id,
        block,
        number,
        count,
        source,
        target,
        callback,
        options,
        packed,
        tensor,
        first,
      );
    });
    return encoded instanceof Promise ? encoded.then(checkEncoded) : checkEncoded(encoded);
  }

  decode(job: DecodeJob): Answer<void> {
    return rejected(() => this.#decode(job));
  }

  #decode(job: DecodeJob): Answer<void> {
    const { dtype, elements, payload, hash, output, target, unpacked, signal } = job;
    const spec = this.#spec(job.codec);
    if (
      spec === undefined ||
      !spec.codec.supports(dtype) ||
      (unpacked !== undefined && !this.#addon.packs) ||
      (output !== dtype && !(isFloatDType(dtype) && isFloatDType(output)))
    ) {
      return this.#portable.decode(job);
    }
    const { codec, block, options } = spec;
    const bytes = byteLength(output, elements);
    const raw = codec.name === "none" && output === dtype;
    const width = codec.name === "lossless" && output === dtype;
    const from = raw ? RAW : width ? widthNumber(dtype) : dtypeNumber(dtype);
    const to = raw ? RAW : width ? from : dtypeNumber(output);
    const count = raw ? bytes : elements;
    const views = unpacked === undefined ? [payload, target] : [payload, target, unpacked];
    const queue =
      Math.max(bytes, payload.length) >= (unpacked === undefined ? QUEUED_BYTES : QUEUED_PACKING_BYTES);
    let verdict: Answer<number>;
    try {
      verdict = this.#run(queue, views, signal, (callback?: JobCallback<number>) => {
        const { id } = codec;
        if (callback === undefined && options === undefined && unpacked === undefined) {
          return this.#addon.decode(this.#isa, id, block, from, count, payload, hash, to, target);
        }
        return this.#addon.decode(
          this.#isa,
          id,
          block,
          from,
          count,
          payload,
          hash,
          to,
          target,
          callback,
          options,
          unpacked,
        );
      });
    } catch (error) {
      // The reference says what is wrong with a payload of another length, after its hash.
      if ((error as TensorwireError).code === "PAYLOAD_INVALID") return this.#portable.decode(job);
      throw error;
    }
    return verdict instanceof Promise
      ? verdict.then((is) => checkVerdict(is, hash))
      : checkVerdict(verdict, hash);
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint> {
    return rejected(() =>
      this.#run(bytes.length >= QUEUED_BYTES, [bytes], signal, (callback?: JobCallback<bigint>) =>
        this.#addon.hash(bytes, callback),
      ),
    );
  }

  pack(job: PackJob): Answer<Packed> {
    const { payload, segments, packed, signal } = job;
    if (!this.#repacks(segments)) return this.#portable.pack(job);
    return rejected(() =>
      this.#run(
        payload.length >= QUEUED_PACKING_BYTES,
        [payload, packed],
        signal,
        (callback?: JobCallback<Packed>) => this.#addon.pack(payload, segments, packed, callback),
      ),
    );
  }

  unpack(job: UnpackJob): Answer<bigint> {
    const { packed, segments, payload, signal } = job;
    if (!this.#repacks(segments)) return this.#portable.unpack(job);
    return rejected(() => {
      const hash = this.#run(
        payload.length >= QUEUED_PACKING_BYTES,
        [packed, payload],
        signal,
        (callback?: JobCallback<bigint | number>) => this.#addon.unpack(packed, segments, payload, callback),
      );
      return hash instanceof Promise ? hash.then(checkUnpacked) : checkUnpacked(hash);
    });
  }

  #repacks(segments: readonly number[]): boolean {
    return this.#addon.packs && segments.length <= MOST_SEGMENTS;
  }

  #spec(spec: CodecSpec): NativeSpec | undefined {
    let native = this.#specs.get(spec);
    if (native === undefined) {
      native = nativeSpec(this.#codecs.get(spec.name), spec) ?? null;
      this.#specs.set(spec, native);
    }
    return native ?? undefined;
  }

  /** Makes one native call: here, or queued until its turn or until `signal` aborts. */
  #run<Result>(
    queue: boolean,
    views: readonly Uint8Array[],
    signal: AbortSignal | undefined,
    call: (callback?: JobCallback<Result>) => Result | number,
  ): Answer<Result> {
    for (const { buffer } of views) refuseResizable(buffer);
    if (signal?.aborted) throw abortedError(signal);
    if (!queue) return checked(() => call() as Result);
    return new Promise((resolve, reject) => {
      const job = checked(() =>
        call((result) => {
          forget?.();
          // A job that had begun was let finish: its buffers are free only now.
          if (result === undefined || signal?.aborted) reject(abortedError(signal));
          else resolve(result);
        }),
      ) as number;
      const forget = signal && onAbort(signal, () => this.#addon.cancel(job));
    });
  }
}

/** What `answer` throws, as a rejection. */
function rejected<T>(answer: () => Answer<T>): Answer<T> {
  try {
    return answer();
  } catch (error) {
    return Promise.reject(error);
  }
}

function checkEncoded(encoded: EncodeResult): EncodedChunk {
  if (encoded !== null) return encoded;
  throw new TensorwireError("INTERNAL", "there is no memory for the scales of a chunk: make chunks smaller");
}

function checkVerdict(verdict: number, hash: bigint): void {
  if (verdict === VERDICT.intact) return;
  if (verdict === VERDICT.corrupt) {
    const expected = hash.toString(16).padStart(16, "0");
    throw new TensorwireError(
      "CHUNK_CORRUPT",
      `the payload's xxh64 is not ${expected}: it changed on its way`,
    );
  }
  throw new TensorwireError(
    "PAYLOAD_INVALID",
    verdict === VERDICT.invalid
      ? "what the payload says of itself does not fit its length"
      : "the packed payload is not one of these lengths, or a part of it cannot be unpacked",
  );
}

function checkUnpacked(hash: bigint | number): bigint {
  if (typeof hash === "number") checkVerdict(hash, 0n);
  return hash as bigint;
}

/** Options of `loadNativeBackend`; all are for tests and measurements, but for `codecs`. */
export interface NativeBackendOptions {
  /** The instruction set, by the name it has in the backend's name; the fastest by default. */
  readonly isa?: string | undefined;
  /** Path of the addon; the one that the build made by default. */
  readonly addon?: string | undefined;
  /** The codecs that jobs may name. Those that the addon does not have run as the reference. */
  readonly codecs?: CodecRegistry | undefined;
}

/**
 * Codecs as native kernels, on as many threads as libuv has (`UV_THREADPOOL_SIZE`). A buffer that is transferred to
 * another thread during a job is freed under its feet: as the contract says, leave a job's buffers alone.
 * @returns undefined where there is no addon, or none for this machine, or the instruction set is not usable.
 */
export function loadNativeBackend(options: NativeBackendOptions = {}): CodecBackend | undefined {
  const addon = loadAddon(options.addon);
  if (addon instanceof Error) return undefined;
  const isa = options.isa === undefined ? 0 : addon.isas.indexOf(options.isa);
  return isa < 0 ? undefined : new NativeBackend(addon, isa, options.codecs ?? defaultCodecs);
}

/**
 * The address of the first byte of `buffer`, modulo a power of two: buffers that begin on a cache line are read faster.
 * @returns undefined where there is no addon to tell.
 */
export function addressOffset(buffer: ArrayBuffer, modulo: number): number | undefined {
  const addon = loadAddon();
  return addon instanceof Error ? undefined : checked(() => addon.addressOffset(buffer, modulo));
}

function dtypeNumber(dtype: DType): number {
  if (isFloatDType(dtype)) return DTYPE_NUMBERS[dtype];
  throw new TensorwireError("INVALID_ARGUMENT", `only F16, BF16, F32 and F64 are converted, not ${dtype}`);
}

function widthNumber(dtype: DType): number {
  return WIDTH_NUMBERS[DTYPE_BITS[dtype]]!;
}

/** A buffer that shrinks while a thread writes to it takes the process down. */
function refuseResizable(buffer: ArrayBufferLike & { readonly resizable?: boolean }): void {
  if (buffer.resizable === true) {
    throw new TensorwireError("INVALID_ARGUMENT", "the buffers of a native job may not be resizable");
  }
}

function abortedError(signal: AbortSignal | undefined): TensorwireError {
  return new TensorwireError("ABORTED", "the job was cancelled", { cause: signal?.reason });
}

/** Runs `call`, whose errors carry a code of ours. */
function checked<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { code, message } = error as Error & { code?: ErrorCode };
    throw new TensorwireError(code ?? "INTERNAL", message, { cause: error });
  }
}
