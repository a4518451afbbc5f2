import {
  type AccumulateJob,
  type Answer,
  byteLength,
  type CodecBackend,
  type CodecRegistry,
  type DecodeJob,
  type DeviceBytes,
  type EncodedChunk,
  type EncodeJob,
  type FiniteJob,
  type Finiteness,
  isHostBytes,
  type Packed,
  type PackJob,
  segmentsOf,
  TensorwireError,
  UNNAMED,
  type UnpackJob,
} from "@tensorwire/core";
import { deviceBuffer } from "./device-buffer.js";
import type { DeviceChunk, DeviceCodecs } from "./device-codec.js";
import type { Place, Transport } from "./transport.js";
import { USAGE } from "./web-gpu.js";

/** Where chunks were encoded and decoded, in bytes of their elements, and what that cost. */
export interface GpuTraffic {
  /** By kernels of the device. */
  readonly deviceBytes: number;
  /** By the host's backend, though they lay, or were to lie, on the device. */
  readonly hostBytes: number;
  /** What was mapped from the device to be read. */
  readonly mappedBytes: number;
  /** The most bytes that staging buffers have had. */
  readonly stagingBytes: number;
}

export interface GpuBackendSettings {
  readonly name: string;
  readonly registry: CodecRegistry;
  readonly host: CodecBackend;
  /** Whether jobs whose bytes are the host's run on the device too. */
  readonly hostJobs: boolean;
  notice(message: string): void;
}

/**
 * Codecs as kernels of a GPU, where the elements lie in a buffer of it; everything else is the host backend's. What a
 * device cannot do, or fails to do, is done on the host as long as the elements are in reach, with a notice.
 */
export class GpuBackend implements CodecBackend {
  readonly name: string;
  readonly #transport: Transport;
  readonly #codecs: DeviceCodecs;
  readonly #settings: GpuBackendSettings;
  readonly #noticed = new Set<string>();
  #deviceBytes = 0;
  #hostBytes = 0;

  constructor(transport: Transport, codecs: DeviceCodecs, settings: GpuBackendSettings) {
    this.name = settings.name;
    this.#transport = transport;
    this.#codecs = codecs;
    this.#settings = settings;
  }

  get traffic(): GpuTraffic {
    const { mappedBytes, staging } = this.#transport;
    return {
      deviceBytes: this.#deviceBytes,
      hostBytes: this.#hostBytes,
      mappedBytes,
      stagingBytes: staging.peak,
    };
  }

  /** The device that it runs on. */
  get device(): object {
    return this.#transport.device;
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    if (!isHostBytes(job.source)) return this.#encodeDevice(job, job.source);
    return this.#settings.hostJobs ? this.#encodeHost(job, job.source) : this.#settings.host.encode(job);
  }

  /** Elements of the device: codes and scales are all that is read back, where kernels have the codec. */
  async #encodeDevice(job: EncodeJob, given: DeviceBytes): Promise<EncodedChunk> {
    const { codec, dtype, elements, at = UNNAMED, signal } = job;
    const bytes = byteLength(dtype, elements);
    const purpose = "it needs STORAGE, or COPY_SRC";
    const buffer = deviceBuffer(given, bytes, USAGE.STORAGE | USAGE.COPY_SRC, purpose);
    const source = { buffer, byteOffset: given.byteOffset };
    const chunk = this.#codecs.encoder(codec, dtype, elements, at);
    if (chunk !== undefined) {
      const encoded = await this.#attempt(() => this.#encode(job, chunk, source));
      if (encoded !== undefined) return encoded;
    }
    deviceBuffer(
      given,
      bytes,
      USAGE.COPY_SRC,
      `${codec.name} of ${dtype} is encoded by the host: it needs COPY_SRC`,
    );
    this.#hostBytes += bytes;
    return this.#transport.readBack(source, bytes, signal, (read) =>
      this.#settings.host.encode({ ...job, source: read }),
    );
  }

  async #encodeHost(job: EncodeJob, source: Uint8Array): Promise<EncodedChunk> {
    const { codec, dtype, elements, at = UNNAMED, target } = job;
    const chunk = this.#codecs.encoder(codec, dtype, elements, at);
    // The host's backend says what is wrong with a job.
    if (chunk === undefined || source.length < chunk.elementBytes || target.length < chunk.payloadBytes) {
      return this.#settings.host.encode(job);
    }
    return (await this.#attempt(() => this.#encode(job, chunk, source))) ?? this.#settings.host.encode(job);
  }

  async #encode(job: EncodeJob, chunk: DeviceChunk, source: Place): Promise<EncodedChunk> {
    const { codec, dtype, elements, target, packed, signal } = job;
    const { payloadBytes: bytes, scaleBytes } = chunk;
    if (target.length < bytes) {
      const message = `${codec.name}: the target needs ${bytes} bytes and has ${target.length}`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const payload = target.subarray(0, bytes);
    const { nonFinite, clamped } = await this.#transport.encode(chunk, source, payload, signal);
    refuseAborted(signal);
    this.#deviceBytes += chunk.elementBytes;
    const found = { bytes, scaleBytes, nonFinite, clamped };
    const { host, registry } = this.#settings;
    if (packed === undefined || nonFinite > 0) return { ...found, hash: await host.hash(payload, signal) };
    const segments = segmentsOf(registry.get(codec.name), codec, dtype, elements, bytes);
    return { ...found, ...(await host.pack({ payload, segments, packed, signal })) };
  }

  decode(job: DecodeJob): Answer<void> {
    if (!isHostBytes(job.target)) return this.#decodeDevice(job, job.target);
    return this.#settings.hostJobs ? this.#decodeHost(job, job.target) : this.#settings.host.decode(job);
  }

  async #decodeDevice(job: DecodeJob, given: DeviceBytes): Promise<void> {
    const { codec, dtype, elements, output, signal } = job;
    const bytes = byteLength(output, elements);
    const purpose = "it needs STORAGE, or COPY_DST";
    const buffer = deviceBuffer(given, bytes, USAGE.STORAGE | USAGE.COPY_DST, purpose);
    const target = { buffer, byteOffset: given.byteOffset };
    const chunk = this.#codecs.decoder(codec, dtype, elements, output);
    if (chunk !== undefined) {
      const decoded = await this.#attempt(() => this.#decode(job, chunk, target));
      if (decoded !== undefined) return;
    }
    deviceBuffer(
      given,
      bytes,
      USAGE.COPY_DST,
      `${codec.name} to ${output} is decoded by the host: it needs COPY_DST`,
    );
    this.#hostBytes += bytes;
    await this.#transport.writeThrough(target, bytes, signal, (room) =>
      this.#settings.host.decode({ ...job, target: room }),
    );
  }

  async #decodeHost(job: DecodeJob, target: Uint8Array): Promise<void> {
    const { codec, dtype, elements, output, payload, unpacked } = job;
    const chunk = this.#codecs.decoder(codec, dtype, elements, output);
    const made = unpacked ?? payload;
    if (chunk === undefined || made.length !== chunk.payloadBytes || target.length < chunk.elementBytes) {
      return this.#settings.host.decode(job);
    }
    const decoded = await this.#attempt(() => this.#decode(job, chunk, target));
    if (decoded === undefined) await this.#settings.host.decode(job);
  }

  async #decode(job: DecodeJob, chunk: DeviceChunk, target: Place): Promise<true> {
    const payload = await this.#verified(job, chunk);
    await this.#transport.decode(chunk, payload, target, job.signal);
    refuseAborted(job.signal);
    this.#deviceBytes += chunk.elementBytes;
    return true;
  }

  /** The payload as its codec made it, if it has the length and the hash that it should have. */
  async #verified(job: DecodeJob, chunk: DeviceChunk): Promise<Uint8Array> {
    const { codec, dtype, elements, payload, unpacked, hash, signal } = job;
    const { host, registry } = this.#settings;
    const made = unpacked ?? payload;
    if (made.length !== chunk.payloadBytes) {
      const expected = `${codec.name}: the payload of ${elements} elements is ${chunk.payloadBytes} bytes`;
      throw new TensorwireError("PAYLOAD_INVALID", `${expected}, this one has ${made.length}`);
    }
    let found: bigint | undefined;
    if (unpacked !== undefined) {
      const segments = segmentsOf(registry.get(codec.name), codec, dtype, elements, unpacked.length);
      found = await host.unpack({ packed: payload, segments, payload: unpacked, signal });
    } else if (hash !== undefined) {
      found = await host.hash(payload, signal);
    }
    if (hash === undefined || found === hash) return made;
    const expected = hash.toString(16).padStart(16, "0");
    throw new TensorwireError(
      "CHUNK_CORRUPT",
      `the payload's xxh64 is not ${expected}: it changed on its way`,
    );
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

  /** The result of a job on the device; undefined where the device failed, and the host may try. */
  async #attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (this.#transport.lost) return undefined;
    try {
      return await work();
    } catch (error) {
      const { code, message } = error as TensorwireError;
      if (code !== "DEVICE_FAILED" && code !== "DEVICE_LOST") throw error;
      // Once for each kind: a model has thousands of chunks.
      if (!this.#noticed.has(code))
        this.#settings.notice(`${message}. Until then chunks are encoded by the CPU.`);
      this.#noticed.add(code);
      return undefined;
    }
  }
}

function refuseAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw new TensorwireError("ABORTED", "the job was cancelled", { cause: signal.reason });
}
