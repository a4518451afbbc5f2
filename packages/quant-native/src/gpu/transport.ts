import { boundRun, inWords } from "./device-buffer.js";
import type { DeviceChunk } from "./device-codec.js";
import type { Binding, Dispatcher, Step } from "./dispatch.js";
import type { Part } from "./layout.js";
import type { Staging, StagingLoan, StagingNeed } from "./staging.js";
import { type GpuBuffer, type GpuDevice, type GpuEncoder, MAP_READ, MAP_WRITE, USAGE } from "./web-gpu.js";
import { COUNT_WORDS, PARAMETER_BYTES, parameterWords } from "./wgsl/parameters.js";

/** A run of a buffer of the device, from a multiple of 4 on. */
export interface DeviceRun {
  readonly buffer: GpuBuffer;
  readonly byteOffset: number;
}

/** Where a chunk's elements are. */
export type Place = Uint8Array | DeviceRun;

/** What kernels found while they encoded. */
export interface Findings {
  readonly nonFinite: number;
  readonly clamped: number;
}

/** Chunks through a device: what is uploaded, run and mapped for one, with as many at once as staging has room for. */
export class Transport {
  readonly #dispatcher: Dispatcher;
  #mapped = 0;

  constructor(
    dispatcher: Dispatcher,
    readonly staging: Staging,
  ) {
    this.#dispatcher = dispatcher;
  }

  get device(): GpuDevice {
    return this.#dispatcher.device;
  }

  /** The same kernels and staging, with counts of its own. */
  again(): Transport {
    return new Transport(this.#dispatcher, this.staging);
  }

  /** Bytes that were mapped to be read by the host. */
  get mappedBytes(): number {
    return this.#mapped;
  }

  /** @throws TensorwireError `DEVICE_LOST`. */
  refuseLost(): void {
    this.#dispatcher.refuseLost();
  }

  /** Makes the payload of the elements at `source` in the beginning of `target`. */
  async encode(
    chunk: DeviceChunk,
    source: Place,
    target: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<Findings> {
    const steps = await this.#steps(chunk);
    const mapped = 4 * chunk.words;
    const made = mapped + 4 * chunk.scratch;
    const bound = bindable(source);
    const elements = bound ? undefined : inWords(chunk.elementBytes);
    const need = { input: elements, output: made, readback: mapped, parameters: PARAMETER_BYTES };
    return this.#job("encoding a chunk", need, signal, async (loan) => {
      const bytes = await this.#map(loan, mapped, (encoder) => {
        const output = loan.buffer("output");
        const run = bound
          ? this.#bound(bound, chunk.elementBytes)
          : this.#copied(loan, encoder, source, chunk);
        const first = (run.before * chunk.parameters.elements!) / chunk.elementBytes;
        this.#write(loan.buffer("parameters"), parameterWords({ ...chunk.parameters, first }));
        encoder.clearBuffer(output, 0, 4 * COUNT_WORDS);
        const target = { buffer: output, offset: 0, bytes: made };
        this.#dispatcher.run(encoder, steps, loan.buffer("parameters"), run.binding, target);
        return { buffer: output, byteOffset: 0 };
      });
      gather(bytes.subarray(4 * COUNT_WORDS), chunk.parts, target);
      const [nonFinite, clamped] = new Uint32Array(bytes.buffer, bytes.byteOffset, COUNT_WORDS);
      return { nonFinite: nonFinite!, clamped: clamped! };
    });
  }

  /** Decodes a payload into the elements at `target`. */
  async decode(
    chunk: DeviceChunk,
    payload: Uint8Array,
    target: Place,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const steps = await this.#steps(chunk);
    const made = inWords(chunk.elementBytes);
    const bound = bindable(target);
    const need = {
      input: 4 * chunk.words,
      output: bound ? undefined : made,
      readback: target instanceof Uint8Array ? made : undefined,
      parameters: PARAMETER_BYTES,
    };
    return this.#job("decoding a chunk", need, signal, async (loan) => {
      const run = (encoder: GpuEncoder): DeviceRun => {
        const input = loan.buffer("input");
        this.#scatter(payload, chunk.parts, input);
        const place = bound ?? { buffer: loan.buffer("output"), byteOffset: 0 };
        const { binding, before } = this.#bound(place, chunk.elementBytes);
        this.#write(loan.buffer("parameters"), parameterWords({ ...chunk.parameters, first: before / 4 }));
        const source = { buffer: input, offset: 0, bytes: 4 * chunk.words };
        this.#dispatcher.run(encoder, steps, loan.buffer("parameters"), source, binding);
        return place;
      };
      if (target instanceof Uint8Array) {
        const bytes = await this.#map(loan, made, run);
        target.set(bytes.subarray(0, chunk.elementBytes));
        return;
      }
      await this.#submit((encoder) => {
        const { buffer, byteOffset } = run(encoder);
        if (!bound) encoder.copyBufferToBuffer(buffer, byteOffset, target.buffer, target.byteOffset, made);
      });
      // Its buffers are the next job's from here on.
      await this.#dispatcher.done();
    });
  }

  /** Lends bytes of the device to `work`, mapped, until what that returns settles. */
  async readBack<T>(
    source: DeviceRun,
    bytes: number,
    signal: AbortSignal | undefined,
    work: (bytes: Uint8Array) => T | Promise<T>,
  ): Promise<T> {
    const need = { readback: inWords(bytes) };
    return this.#job("reading a chunk back", need, signal, async (loan) => {
      const mapped = await this.#map(loan, inWords(bytes), () => source);
      return work(mapped.subarray(0, bytes));
    });
  }

  /** Lends room for bytes of the device to `work`, and writes them there when what that returns has settled. */
  async writeThrough(
    target: DeviceRun,
    bytes: number,
    signal: AbortSignal | undefined,
    work: (bytes: Uint8Array) => unknown,
  ): Promise<void> {
    const size = inWords(bytes);
    return this.#job("writing a chunk", { upload: size }, signal, async (loan) => {
      await this.#dispatcher.guarded(() => loan.buffer("upload").mapAsync(MAP_WRITE, 0, size));
      const upload = loan.buffer("upload");
      const mapped = new Uint8Array(upload.getMappedRange(0, size));
      mapped.fill(0, bytes);
      await work(mapped.subarray(0, bytes));
      upload.unmap();
      await this.#submit((encoder) =>
        encoder.copyBufferToBuffer(upload, 0, target.buffer, target.byteOffset, size),
      );
      await this.#dispatcher.done();
    });
  }

  /** Destroys the buffers that no job has: the device itself is the caller's. */
  close(): void {
    this.staging.close();
    this.#dispatcher.close();
  }

  #steps({ kernels }: DeviceChunk): Promise<Step[]> {
    const steps = kernels.map(async ({ kernel, workgroups }) => ({
      pipeline: await this.#dispatcher.pipeline(kernel),
      workgroups,
    }));
    return Promise.all(steps);
  }

  /** One job with its staging. After a failure its buffers are not used again: nobody knows what became of them. */
  async #job<T>(
    what: string,
    need: StagingNeed,
    signal: AbortSignal | undefined,
    work: (loan: StagingLoan) => Promise<T>,
  ): Promise<T> {
    const loan = await this.staging.lend(need, signal);
    let done = false;
    try {
      const result = await work(loan);
      done = true;
      return result;
    } catch (error) {
      throw await this.#dispatcher.fault(error, what);
    } finally {
      loan.release(done);
    }
  }

  /** Runs `work`, and maps `bytes` from where it says on. Valid until the loan's buffers are given back. */
  async #map(
    loan: StagingLoan,
    bytes: number,
    work: (encoder: GpuEncoder) => DeviceRun,
  ): Promise<Uint8Array> {
    // Made where a complaint of it is heard.
    const readback = (): GpuBuffer => loan.buffer("readback");
    await this.#submit(
      (encoder) => {
        const { buffer, byteOffset } = work(encoder);
        encoder.copyBufferToBuffer(buffer, byteOffset, readback(), 0, bytes);
      },
      () => readback().mapAsync(MAP_READ, 0, bytes),
    );
    this.#mapped += bytes;
    return new Uint8Array(readback().getMappedRange(0, bytes));
  }

  #submit(work: (encoder: GpuEncoder) => void, then?: () => Promise<unknown>): Promise<unknown> {
    return this.#dispatcher.guarded(() => {
      const encoder = this.device.createCommandEncoder();
      work(encoder);
      this.device.queue.submit([encoder.finish()]);
      return then?.();
    });
  }

  #bound({ buffer, byteOffset }: DeviceRun, bytes: number): { binding: Binding; before: number } {
    return boundRun(buffer, byteOffset, bytes, this.device.limits.minStorageBufferOffsetAlignment);
  }

  /** The elements where kernels can read them. */
  #copied(
    loan: StagingLoan,
    encoder: GpuEncoder,
    source: Place,
    { elementBytes }: DeviceChunk,
  ): { binding: Binding; before: number } {
    const input = loan.buffer("input");
    const bytes = inWords(elementBytes);
    if (source instanceof Uint8Array) this.#write(input, source.subarray(0, elementBytes));
    else encoder.copyBufferToBuffer(source.buffer, source.byteOffset, input, 0, bytes);
    return { binding: { buffer: input, offset: 0, bytes }, before: 0 };
  }

  /** A payload's parts, each where its words begin. */
  #scatter(payload: Uint8Array, parts: readonly Part[], buffer: GpuBuffer): void {
    let at = 0;
    for (const { word, bytes } of parts) {
      this.#write(buffer, payload.subarray(at, at + bytes), 4 * word);
      at += bytes;
    }
  }

  /** Whole words are written: the last one is filled up with zeros. */
  #write(buffer: GpuBuffer, data: Uint8Array | Uint32Array, at = 0): void {
    const { queue } = this.device;
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const whole = bytes.length - (bytes.length % 4);
    if (whole > 0) queue.writeBuffer(buffer, at, bytes, 0, whole);
    if (whole === bytes.length) return;
    const last = new Uint8Array(4);
    last.set(bytes.subarray(whole));
    queue.writeBuffer(buffer, at + whole, last);
  }
}

/** The place, where kernels can have the elements there. */
function bindable(place: Place): DeviceRun | undefined {
  return place instanceof Uint8Array || (place.buffer.usage & USAGE.STORAGE) === 0 ? undefined : place;
}

function gather(words: Uint8Array, parts: readonly Part[], target: Uint8Array): void {
  let at = 0;
  for (const { word, bytes } of parts) {
    target.set(words.subarray(4 * word, 4 * word + bytes), at);
    at += bytes;
  }
}
