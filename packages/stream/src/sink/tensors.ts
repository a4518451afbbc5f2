import { constants } from "node:buffer";
import {
  type Answer,
  byteLength,
  type Chunk,
  elementCount,
  type Tensor,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { type Deferred, deferred } from "../session/deferred.js";
import { Handover } from "./handover.js";
import type { ModelSink, Place, SinkModel } from "./sink.js";

/** A tensor that has arrived whole. */
export interface ReceivedTensor extends Tensor {
  readonly data: Uint8Array;
}

/** The same, wherever it was put together. */
export interface TensorIn<M> extends TensorInfo {
  /** Its elements. */
  readonly data: M;
}

/** Where whole tensors are put together: memory of the host, or of a device. */
export interface TensorMemory<M extends Place> {
  /** For messages. */
  readonly name: string;
  readonly mostBytes: number;
  /** Before any data: the largest tensor there is. */
  open?(bytes: number): void;
  /** Room for a tensor: once for each, in order. @throws RangeError where there is none. */
  allocate(bytes: number): M;
  /** Why there is no room after all, where that turns out later. */
  complaint?(memory: M): Promise<string | undefined>;
  part(memory: M, offset: number, bytes: number): Place;
  /** A tensor that will not be complete. */
  discard?(memory: M): void;
}

/**
 * Memory of this process.
 * @param borrow lends one buffer, reused, until the next step, instead of giving each tensor memory of its own.
 */
export function hostMemory(borrow = false): TensorMemory<Uint8Array> {
  let lent: Uint8Array | undefined;
  return {
    name: "this runtime",
    mostBytes: constants.MAX_LENGTH,
    open(bytes) {
      // Zeros cost no memory until they are written.
      if (borrow) lent = new Uint8Array(bytes);
    },
    allocate: (bytes) => lent?.subarray(0, bytes) ?? new Uint8Array(bytes),
    part: (memory, offset, bytes) => memory.subarray(offset, offset + bytes),
  };
}

/**
 * Yields whole tensors, in the manifest's order. Memory is taken for a tensor only when the consumer asks for it, and
 * chunks are decoded straight into it.
 */
export class TensorsSink<M extends Place = Uint8Array> implements ModelSink {
  readonly name = "tensor iterator";
  readonly parallel = true;
  readonly handover = new Handover<TensorIn<M>>();
  #model: SinkModel | undefined;
  /** The last tensor that was begun, or given; bytes of it that are missing; and its memory. */
  #at = -1;
  #missing = 0;
  #data: M | undefined;
  /** Waits for them. */
  #filled: Deferred<void> | undefined;

  constructor(private readonly memory: TensorMemory<M>) {}

  async open(model: SinkModel): Promise<void> {
    this.#model = model;
    let largest = 0;
    let largestBytes = 0;
    // Found out now, before any data is sent.
    model.manifest.tensors.forEach((_, i) => {
      const bytes = this.#bytes(i);
      if (bytes > this.memory.mostBytes) throw this.#tooLarge(i);
      if (bytes > largestBytes) {
        largest = i;
        largestBytes = bytes;
      }
    });
    if (!this.memory.open || model.manifest.tensors.length === 0) return;
    this.#made(largest, () => this.memory.open!(largestBytes));
  }

  #bytes(i: number): number {
    const { manifest, dtypes } = this.#model!;
    return byteLength(dtypes[i]!, elementCount(manifest.tensors[i]!.shape));
  }

  #made<T>(i: number, make: () => T): T {
    try {
      return make();
    } catch (cause) {
      throw this.#tooLarge(i, cause);
    }
  }

  #tooLarge(i: number, cause?: unknown): TensorwireError {
    const message = `${this.#bytes(i)} bytes are more than ${this.memory.name} can hold in one buffer: iterate over chunks() instead`;
    return new TensorwireError("TENSOR_TOO_LARGE", message, {
      tensor: this.#model!.manifest.tensors[i]!.name,
      cause,
    });
  }

  place(chunk: Chunk, bytes: number): Answer<Place> {
    const { tensor } = chunk;
    if (tensor === this.#at) return this.#slice(chunk, bytes);
    const next = tensor === this.#at + 1 && this.#missing === 0;
    if (next && this.handover.asked) return this.#start(chunk, bytes);
    const turn = next ? this.handover.wanted() : this.#before(tensor);
    return turn.then(() => this.#start(chunk, bytes));
  }

  #start(chunk: Chunk, bytes: number): Answer<Place> {
    this.#at = chunk.tensor;
    // A tensor of one chunk, as small ones are, is as long as that.
    this.#missing = this.#model!.plan.range(chunk.tensor).count === 1 ? bytes : this.#bytes(chunk.tensor);
    this.#data = this.#made(chunk.tensor, () => this.memory.allocate(this.#missing));
    this.#filled = undefined;
    const place = this.#slice(chunk, bytes);
    if (!this.memory.complaint) return place;
    return this.memory.complaint(this.#data).then((why) => {
      if (why === undefined) return place;
      const message = `${this.memory.name} has no room for ${this.#bytes(chunk.tensor)} bytes: ${why}: free buffers on it, or receive into a file`;
      const { name } = this.#model!.manifest.tensors[chunk.tensor]!;
      throw new TensorwireError("DEVICE_FAILED", message, { tensor: name });
    });
  }

  #slice(chunk: Chunk, bytes: number): Place {
    const offset = byteLength(this.#model!.dtypes[chunk.tensor]!, chunk.first);
    return this.memory.part(this.#data!, offset, bytes);
  }

  async #before(tensor: number): Promise<void> {
    await this.#giveEmpty(tensor);
    await this.#turn();
  }

  /** Tensors without elements have no chunks: they are given when the one after them is due. */
  async #giveEmpty(until: number): Promise<void> {
    while (this.#at + 1 < until) {
      await this.#turn();
      this.#at++;
      this.#give(
        this.#at,
        this.#made(this.#at, () => this.memory.allocate(0)),
      );
    }
  }

  /** The tensor before is whole, and the consumer has asked for the next. */
  async #turn(): Promise<void> {
    if (this.#missing > 0) {
      this.#filled = deferred<void>();
      await this.#filled.promise;
    }
    if (!this.handover.asked) await this.handover.wanted();
  }

  #give(i: number, data: M): void {
    const { manifest, dtypes } = this.#model!;
    const { name, shape } = manifest.tensors[i]!;
    this.handover.put({ name, dtype: dtypes[i]!, shape, data }, i === manifest.tensors.length - 1);
  }

  write(chunk: Chunk, bytes: Place): undefined {
    this.#missing -= bytes.byteLength;
    if (this.#missing > 0) return;
    const data = this.#data!;
    this.#data = undefined;
    this.#give(chunk.tensor, data);
    this.#filled?.resolve();
  }

  async finish(): Promise<void> {
    await this.#giveEmpty(this.#model!.manifest.tensors.length);
    await this.#turn();
    this.handover.end();
  }

  async abort(error: TensorwireError): Promise<void> {
    this.#filled?.reject(error);
    this.handover.fail(error);
    if (this.#data !== undefined) this.memory.discard?.(this.#data);
    this.#data = undefined;
  }
}
