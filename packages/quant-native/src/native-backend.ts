import {
  type AccumulateJob,
  type Answer,
  byteLength,
  type CodecBackend,
  type CodecRegistry,
  type CodecSpec,
  type DecodeJob,
  defaultCodecs,
  type EncodedChunk,
  type EncodeJob,
  type FiniteJob,
  type Finiteness,
  hostBytes,
  isFloatDType,
  type Packed,
  type PackJob,
  PortableBackend,
  TensorwireError,
  UNNAMED,
  type UnpackJob,
} from "@tensorwire/core";
import { type Addon, type EncodeResult, FOUND, type JobCallback, loadAddon } from "./addon.js";
import { dtypeNumber, RAW, widthNumber } from "./dtype-number.js";
import { checked, runNative } from "./native-call.js";
import { type NativeSpec, nativeSpec } from "./native-spec.js";
import { NativeSums } from "./native-sums.js";
import { nodePacker } from "./packer.js";
import { checkUnpacked, checkVerdict } from "./verdict.js";

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
  readonly #synchronous: boolean;
  readonly #codecs: CodecRegistry;
  readonly #portable: PortableBackend;
  readonly #sums: NativeSums;
  /** A transfer's chunks share a few specs: each is resolved once. Null stands for one that the reference runs. */
  readonly #specs = new WeakMap<CodecSpec, NativeSpec | null>();

  constructor(addon: Addon, isa: number, synchronous: boolean, codecs: CodecRegistry) {
    this.name = `native-${addon.isas[isa]}`;
    this.#addon = addon;
    this.#isa = isa;
    this.#synchronous = synchronous;
    this.#codecs = codecs;
    this.#portable = new PortableBackend(codecs, nodePacker(addon));
    this.#sums = new NativeSums(addon, isa, this.#portable, {
      specOf: (spec) => this.#spec(spec),
      queues: (bytes, packing) => this.#queues(bytes, packing),
    });
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    return rejected(() => this.#encode(job));
  }

  #encode(job: EncodeJob): Answer<EncodedChunk> {
    const { dtype, elements, target, packed, at = UNNAMED, signal } = job;
    const source = hostBytes(this.name, job.source);
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
    const queue = this.#queues(bytes, packed !== undefined);
    const take = (hash: EncodeResult) => this.#found(hash, packed !== undefined);
    return runNative(this.#addon, queue, views, signal, take, (callback?: JobCallback<EncodeResult>) => {
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
  }

  decode(job: DecodeJob): Answer<void> {
    return rejected(() => this.#decode(job));
  }

  #decode(job: DecodeJob): Answer<void> {
    const { dtype, elements, payload, hash, output, unpacked, signal } = job;
    const target = hostBytes(this.name, job.target);
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
    const queue = this.#queues(Math.max(bytes, payload.length), unpacked !== undefined);
    const take = (verdict: number) => checkVerdict(verdict, hash);
    try {
      return runNative(this.#addon, queue, views, signal, take, (callback?: JobCallback<number>) => {
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
  }

  accumulate(job: AccumulateJob): Answer<Finiteness> {
    return rejected(() => this.#sums.accumulate(job));
  }

  finite(job: FiniteJob): Answer<Finiteness> {
    return rejected(() => this.#sums.finite(job));
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint> {
    const queue = this.#queues(bytes.length, false);
    return rejected(() =>
      runNative(this.#addon, queue, [bytes], signal, asItIs, (callback?: JobCallback<bigint>) =>
        this.#addon.hash(bytes, callback),
      ),
    );
  }

  pack(job: PackJob): Answer<Packed> {
    const { payload, segments, packed, signal } = job;
    if (!this.#repacks(segments)) return this.#portable.pack(job);
    const queue = this.#queues(payload.length, true);
    const take = (hash: bigint) => ({ hash, packedBytes: this.#addon.found[FOUND.packedBytes]! });
    return rejected(() =>
      runNative(this.#addon, queue, [payload, packed], signal, take, (callback?: JobCallback<bigint>) =>
        this.#addon.pack(payload, segments, packed, callback),
      ),
    );
  }

  unpack(job: UnpackJob): Answer<bigint> {
    const { packed, segments, payload, signal } = job;
    if (!this.#repacks(segments)) return this.#portable.unpack(job);
    const queue = this.#queues(payload.length, true);
    return rejected(() =>
      runNative(
        this.#addon,
        queue,
        [packed, payload],
        signal,
        checkUnpacked,
        (callback?: JobCallback<bigint | number>) => this.#addon.unpack(packed, segments, payload, callback),
      ),
    );
  }

  #queues(bytes: number, packing: boolean): boolean {
    return !this.#synchronous && bytes >= (packing ? QUEUED_PACKING_BYTES : QUEUED_BYTES);
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

  /** What an encode job left behind, besides a hash. */
  #found(hash: EncodeResult, packed: boolean): EncodedChunk {
    if (hash === null) {
      throw new TensorwireError("INTERNAL", "there is no memory for a chunk's scales: make chunks smaller");
    }
    const { found } = this.#addon;
    const chunk = {
      bytes: found[FOUND.bytes]!,
      scaleBytes: found[FOUND.scaleBytes]!,
      nonFinite: found[FOUND.nonFinite]!,
      clamped: found[FOUND.clamped]!,
      hash,
    };
    if (found[FOUND.declined] !== 0) return { ...chunk, declined: true };
    return packed ? { ...chunk, packedBytes: found[FOUND.packedBytes]! } : chunk;
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

/** Options of `loadNativeBackend`; all are for tests and measurements, but for `codecs`. */
export interface NativeBackendOptions {
  /** The instruction set, by the name it has in the backend's name; the fastest by default. */
  readonly isa?: string | undefined;
  /** Path of the addon; the one that the build made by default. */
  readonly addon?: string | undefined;
  /** Does every job within its call, on the calling thread, however large it is. */
  readonly synchronous?: boolean | undefined;
  /** The codecs that jobs may name. Those that the addon does not have run as the reference. */
  readonly codecs?: CodecRegistry | undefined;
}

/**
 * Codecs as native kernels, on as many threads as libuv has (`UV_THREADPOOL_SIZE`). A buffer that is transferred to
 * another thread during a job is freed under its feet: as the contract says, leave a job's buffers alone.
 * @returns undefined where there is no addon, or none for this machine, or the instruction set is not usable.
 * @example
 * const backend = loadNativeBackend();
 * console.log(backend === undefined || backend.name.startsWith("native")); // true
 */
export function loadNativeBackend(options: NativeBackendOptions = {}): CodecBackend | undefined {
  const addon = loadAddon(options.addon);
  if (addon instanceof Error) return undefined;
  const isa = options.isa === undefined ? 0 : addon.isas.indexOf(options.isa);
  if (isa < 0) return undefined;
  return new NativeBackend(addon, isa, options.synchronous ?? false, options.codecs ?? defaultCodecs);
}

/**
 * The address of the first byte of `buffer`, modulo a power of two: buffers that begin on a cache line are read faster.
 * @returns undefined where there is no addon to tell.
 * @example
 * const offset = addressOffset(new ArrayBuffer(64), 64);
 * console.log(offset === undefined || offset < 64); // true
 */
export function addressOffset(buffer: ArrayBuffer, modulo: number): number | undefined {
  const addon = loadAddon();
  return addon instanceof Error ? undefined : checked(() => addon.addressOffset(buffer, modulo));
}

function asItIs<T>(result: T): T {
  return result;
}
