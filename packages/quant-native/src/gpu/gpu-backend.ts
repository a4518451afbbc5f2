import {
  type AccumulateJob,
  type Answer,
  byteLength,
  type CodecBackend,
  type CodecRegistry,
  type DecodeJob,
  type DeviceBytes,
  type DType,
  type EncodedChunk,
  type EncodeJob,
  type FiniteJob,
  type Finiteness,
  isHostBytes,
  type Packed,
  type PackJob,
  type TensorwireError,
  UNNAMED,
  type UnpackJob,
} from "@tensorwire/core";
import { ChunkPassage } from "./chunk-passage.js";
import type { CodecTrials } from "./codec-trials.js";
import { deviceBuffer } from "./device-buffer.js";
import type { DeviceChunk, DeviceCodecs } from "./device-codec.js";
import type { Place, Transport } from "./transport.js";
import { USAGE } from "./web-gpu.js";

/** What the host makes good of a device: of one that is lost, only what is in the host's own memory. */
const FAILED: readonly string[] = ["DEVICE_FAILED"];
const FAILED_OR_LOST: readonly string[] = [...FAILED, "DEVICE_LOST"];

/** Where chunks were encoded and decoded, in bytes of their elements, and what that cost. */
export interface GpuTraffic {
  /** By kernels of the device. */
  readonly deviceBytes: number;
  /** By the host's backend. */
  readonly hostBytes: number;
  /** What was mapped from the device to be read. */
  readonly mappedBytes: number;
  /** The most bytes that staging buffers have had. */
  readonly stagingBytes: number;
}

/** What a `GpuBackend` is made with. */
export interface GpuBackendSettings {
  readonly name: string;
  readonly registry: CodecRegistry;
  readonly host: CodecBackend;
  readonly trials: CodecTrials;
  /** Whether jobs whose bytes are the host's run on the device too. */
  readonly hostJobs: boolean;
  /** Whether the device's own bytes are encoded and decoded there, and not read back, or written, as they are. */
  readonly deviceJobs: boolean;
  notice(message: string): void;
}

/**
 * Codecs as kernels of a GPU, where the elements lie in a buffer of it; everything else is the host backend's. What a
 * device cannot do, or fails to do, is done on the host as long as the elements are in reach, with a notice.
 * @example
 * // not run: needs a GPU
 * const backend = await gpuCodecs(device);
 * await streamModel({ weight: { dtype: "F32", shape: [rows, columns], data: { buffer } } }, url, { backend });
 * console.log(backend.name, backend.traffic.deviceBytes, backend.traffic.mappedBytes);
 * backend.close();
 */
export class GpuBackend implements CodecBackend {
  readonly name: string;
  readonly #transport: Transport;
  readonly #codecs: DeviceCodecs;
  readonly #settings: GpuBackendSettings;
  readonly #passage: ChunkPassage;
  readonly #noticed = new Set<string>();
  #deviceBytes = 0;
  #hostBytes = 0;

  constructor(transport: Transport, codecs: DeviceCodecs, settings: GpuBackendSettings) {
    this.name = settings.name;
    this.#transport = transport;
    this.#codecs = codecs;
    this.#settings = settings;
    this.#passage = new ChunkPassage(transport, settings.host, settings.registry);
  }

  /** What it has done so far. */
  get traffic(): GpuTraffic {
    const { mappedBytes, staging } = this.#transport;
    return {
      deviceBytes: this.#deviceBytes,
      hostBytes: this.#hostBytes,
      mappedBytes,
      stagingBytes: staging.peak,
    };
  }

  /** Bytes of elements, by what encoded or decoded them. */
  get ran(): Readonly<Record<string, number>> {
    const { host } = this.#settings;
    return {
      ...(this.#deviceBytes > 0 && { [this.name]: this.#deviceBytes }),
      ...(this.#hostBytes > 0 && { [host.name]: this.#hostBytes }),
    };
  }

  /** The same device, kernels and staging with counts of its own, for one transfer. */
  again(settings: Partial<Pick<GpuBackendSettings, "hostJobs" | "deviceJobs">> = {}): GpuBackend {
    return new GpuBackend(this.#transport.again(), this.#codecs, { ...this.#settings, ...settings });
  }

  /** The device that it runs on. */
  get device(): object {
    return this.#transport.device;
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    if (!isHostBytes(job.source)) return this.#encodeDevice(job, job.source);
    return this.#settings.hostJobs ? this.#encodeHost(job, job.source) : this.#hostEncode(job);
  }

  #hostEncode(job: EncodeJob): Answer<EncodedChunk> {
    this.#hostBytes += elementBytes(job.dtype, job.elements);
    return this.#settings.host.encode(job);
  }

  #hostDecode(job: DecodeJob): Answer<void> {
    this.#hostBytes += elementBytes(job.output, job.elements);
    return this.#settings.host.decode(job);
  }

  async #encoder({ codec, dtype, elements, at = UNNAMED }: EncodeJob): Promise<DeviceChunk | undefined> {
    const encoder = this.#codecs.encoder(codec, dtype, elements, at);
    return encoder && (await this.#settings.trials.passes(codec.name)) ? encoder : undefined;
  }

  async #decoder({ codec, dtype, elements, output }: DecodeJob): Promise<DeviceChunk | undefined> {
    const decoder = this.#codecs.decoder(codec, dtype, elements, output);
    return decoder && (await this.#settings.trials.passes(codec.name)) ? decoder : undefined;
  }

  /** Elements of the device: codes and scales are all that is read back, where kernels have the codec. */
  async #encodeDevice(job: EncodeJob, given: DeviceBytes): Promise<EncodedChunk> {
    const { codec, dtype, elements, signal } = job;
    const bytes = byteLength(dtype, elements);
    const purpose = "it needs STORAGE, or COPY_SRC";
    const buffer = deviceBuffer(given, bytes, USAGE.STORAGE | USAGE.COPY_SRC, purpose);
    const source = { buffer, byteOffset: given.byteOffset };
    const encoded = await this.#attempt(
      async () => {
        const chunk = this.#settings.deviceJobs ? await this.#encoder(job) : undefined;
        return chunk && this.#encode(job, chunk, source);
      },
      (buffer.usage & USAGE.COPY_SRC) !== 0 ? FAILED : [],
    );
    if (encoded !== undefined) return encoded;
    deviceBuffer(
      given,
      bytes,
      USAGE.COPY_SRC,
      `${codec.name} of ${dtype} is encoded by the host: it needs COPY_SRC`,
    );
    return this.#transport.readBack(source, bytes, signal, (read) =>
      this.#hostEncode({ ...job, source: read }),
    );
  }

  async #encodeHost(job: EncodeJob, source: Uint8Array): Promise<EncodedChunk> {
    const { target } = job;
    const encoded = await this.#attempt(async () => {
      const chunk = await this.#encoder(job);
      // The host's backend says what is wrong with a job.
      if (chunk === undefined || source.length < chunk.elementBytes || target.length < chunk.payloadBytes) {
        return undefined;
      }
      return this.#encode(job, chunk, source);
    }, FAILED_OR_LOST);
    return encoded ?? this.#hostEncode(job);
  }

  async #encode(job: EncodeJob, chunk: DeviceChunk, source: Place): Promise<EncodedChunk> {
    const encoded = await this.#passage.encode(job, chunk, source);
    this.#deviceBytes += chunk.elementBytes;
    return encoded;
  }

  decode(job: DecodeJob): Answer<void> {
    if (!isHostBytes(job.target)) return this.#decodeDevice(job, job.target);
    return this.#settings.hostJobs ? this.#decodeHost(job, job.target) : this.#hostDecode(job);
  }

  async #decodeDevice(job: DecodeJob, given: DeviceBytes): Promise<void> {
    const { codec, elements, output, signal } = job;
    const bytes = byteLength(output, elements);
    const purpose = "it needs STORAGE, or COPY_DST";
    const buffer = deviceBuffer(given, bytes, USAGE.STORAGE | USAGE.COPY_DST, purpose);
    const target = { buffer, byteOffset: given.byteOffset };
    const decoded = await this.#attempt(
      async () => {
        const chunk = this.#settings.deviceJobs ? await this.#decoder(job) : undefined;
        return chunk && this.#decode(job, chunk, target);
      },
      (buffer.usage & USAGE.COPY_DST) !== 0 ? FAILED : [],
    );
    if (decoded !== undefined) return;
    deviceBuffer(
      given,
      bytes,
      USAGE.COPY_DST,
      `${codec.name} to ${output} is decoded by the host: it needs COPY_DST`,
    );
    await this.#transport.writeThrough(target, bytes, signal, (room) =>
      this.#hostDecode({ ...job, target: room }),
    );
  }

  async #decodeHost(job: DecodeJob, target: Uint8Array): Promise<void> {
    const { payload, unpacked } = job;
    const made = unpacked ?? payload;
    const decoded = await this.#attempt(async () => {
      const chunk = await this.#decoder(job);
      if (chunk === undefined || made.length !== chunk.payloadBytes || target.length < chunk.elementBytes) {
        return undefined;
      }
      return this.#decode(job, chunk, target);
    }, FAILED_OR_LOST);
    if (decoded === undefined) await this.#hostDecode(job);
  }

  async #decode(job: DecodeJob, chunk: DeviceChunk, target: Place): Promise<true> {
    await this.#passage.decode(job, chunk, target);
    this.#deviceBytes += chunk.elementBytes;
    return true;
  }

  accumulate(job: AccumulateJob): Answer<Finiteness> {
    return this.#settings.host.accumulate(job);
  }

  finite(job: FiniteJob): Answer<Finiteness> {
    return this.#settings.host.finite(job);
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint> {
    return this.#settings.host.hash(bytes, signal);
  }

  pack(job: PackJob): Answer<Packed> {
    return this.#settings.host.pack(job);
  }

  unpack(job: UnpackJob): Answer<bigint> {
    return this.#settings.host.unpack(job);
  }

  /** Frees what it has of the device, which is the caller's. Not while jobs run. */
  close(): void {
    this.#transport.close();
  }

  /**
   * The result of a job on the device; undefined where the device does not have the codec, or failed, and the host may try.
   * @param mended what the host can make good.
   */
  async #attempt<T>(work: () => Promise<T | undefined>, mended: readonly string[]): Promise<T | undefined> {
    try {
      this.#transport.refuseLost();
      return await work();
    } catch (error) {
      const { code, message } = error as TensorwireError;
      if (!mended.includes(code)) throw error;
      // Once for each kind: a model has thousands of chunks.
      if (!this.#noticed.has(code))
        this.#settings.notice(`${message}. Until then chunks are encoded by the CPU.`);
      this.#noticed.add(code);
      return undefined;
    }
  }
}

/** What a job that is none is refused for, by whoever has to do it. */
function elementBytes(dtype: DType, elements: number): number {
  return Number.isSafeInteger(elements) && elements > 0 ? byteLength(dtype, elements) : 0;
}
