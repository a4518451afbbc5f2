import {
  type Answer,
  bfloat16,
  blockwise8,
  byteLength,
  type Codec,
  type CodecBackend,
  type CodecRegistry,
  type DecodeJob,
  type DType,
  defaultCodecs,
  type EncodedChunk,
  type EncodeJob,
  type Packed,
  type PackJob,
  type UnpackJob,
  type ErrorCode,
  float4,
  float16,
  isFloatDType,
  none,
  normfloat4,
  PortableBackend,
  TensorwireError,
} from "@tensorwire/core";
import { onAbort } from "./abort-listener.js";
import { type Addon, type JobCallback, loadAddon } from "./addon.js";

/** Codecs that the addon has, by the very object: a caller's own codec under one of these names is not theirs. */
const NATIVE_CODECS = new Set<Codec>([none, float16, bfloat16, blockwise8, float4, normfloat4]);

const RAW = 0;
const DTYPE_NUMBERS = { F16: 1, BF16: 2, F32: 3, F64: 4 } as const;

/** Jobs below this run on the calling thread: handing one to another costs 25 µs, which is 256 KiB at 10 GB/s. */
const QUEUED_BYTES = 256 * 1024;

/** Codecs in C++ on libuv's worker threads, with the kernels of one instruction set. */
class NativeBackend implements CodecBackend {
  readonly name: string;
  readonly #addon: Addon;
  readonly #isa: number;
  readonly #codecs: CodecRegistry;
  readonly #portable: PortableBackend;

  constructor(addon: Addon, isa: number, codecs: CodecRegistry) {
    this.name = `native-${addon.isas[isa]}`;
    this.#addon = addon;
    this.#isa = isa;
    this.#codecs = codecs;
    this.#portable = new PortableBackend(codecs);
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    return rejected(() => this.#encode(job));
  }

  #encode(job: EncodeJob): Answer<EncodedChunk> {
    const { dtype, elements, source, target, signal } = job;
    const codec = this.#codecs.get(job.codec.name);
    if (!NATIVE_CODECS.has(codec) || job.packed !== undefined) return this.#portable.encode(job);
    const { block = 0 } = codec.resolve(job.codec);
    // Refuses a dtype that the codec does not take, and a count that is none.
    codec.payloadBytes(job.codec, dtype, elements);
    const bytes = byteLength(dtype, elements);
    const [number, count] = codec === none ? [RAW, bytes] : [dtypeNumber(dtype), elements];
    return this.#run(bytes, [source, target], signal, (callback?: JobCallback<EncodedChunk>) =>
      this.#addon.encode(this.#isa, codec.id, block, number, count, source, target, callback),
    );
  }

  decode(job: DecodeJob): Answer<void> {
    return rejected(() => this.#decode(job));
  }

  #decode(job: DecodeJob): Answer<void> {
    const { dtype, elements, payload, hash, output, target, signal } = job;
    const codec = this.#codecs.get(job.codec.name);
    // The reference says what is wrong with a payload of another length, after its hash.
    if (
      !NATIVE_CODECS.has(codec) ||
      job.unpacked !== undefined ||
      payload.length !== codec.payloadBytes(job.codec, dtype, elements) ||
      (codec === none && output !== dtype && !(isFloatDType(dtype) && isFloatDType(output)))
    ) {
      return this.#portable.decode(job);
    }
    const { block = 0 } = codec.resolve(job.codec);
    const bytes = byteLength(output, elements);
    const raw = codec === none && output === dtype;
    const [from, to, count] = raw ? [RAW, RAW, bytes] : [dtypeNumber(dtype), dtypeNumber(output), elements];
    const intact = this.#run(
      Math.max(bytes, payload.length),
      [payload, target],
      signal,
      (callback?: JobCallback<boolean>) =>
        this.#addon.decode(this.#isa, codec.id, block, from, count, payload, hash, to, target, callback),
    );
    return intact instanceof Promise ? intact.then((is) => checkIntact(is, hash)) : checkIntact(intact, hash);
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint> {
    return rejected(() =>
      this.#run(bytes.length, [bytes], signal, (callback?: JobCallback<bigint>) =>
        this.#addon.hash(bytes, callback),
      ),
    );
  }

  pack(job: PackJob): Answer<Packed> {
    return this.#portable.pack(job);
  }

  unpack(job: UnpackJob): Answer<bigint> {
    return this.#portable.unpack(job);
  }

  /** Makes one native call: here where it is small, else queued until its turn or until `signal` aborts. */
  #run<Result>(
    bytes: number,
    views: readonly Uint8Array[],
    signal: AbortSignal | undefined,
    call: (callback?: JobCallback<Result>) => Result | number,
  ): Answer<Result> {
    for (const { buffer } of views) refuseResizable(buffer);
    if (signal?.aborted) throw abortedError(signal);
    if (bytes < QUEUED_BYTES) return checked(() => call() as Result);
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

function checkIntact(intact: boolean, hash: bigint): void {
  if (intact) return;
  const expected = hash.toString(16).padStart(16, "0");
  throw new TensorwireError("CHUNK_CORRUPT", `the payload's xxh64 is not ${expected}: it changed on its way`);
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
