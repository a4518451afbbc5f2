import { constants } from "node:buffer";
import {
  type Answer,
  byteLength,
  type Chunk,
  elementCount,
  type Tensor,
  TensorwireError,
} from "@tensorwire/core";
import { type Deferred, deferred } from "../session/deferred.js";
import { Handover } from "./handover.js";
import type { ModelSink, SinkModel } from "./sink.js";

/** A tensor that has arrived whole. */
export interface ReceivedTensor extends Tensor {
  readonly data: Uint8Array;
}

export interface TensorsSinkOptions {
  /** Lends one buffer, reused, until the next step, instead of giving each tensor memory of its own. Default false. */
  readonly borrow?: boolean | undefined;
}

/**
 * Yields whole tensors, in the manifest's order. Memory is taken for a tensor only when the consumer asks for it, and
 * chunks are decoded straight into it.
 */
export class TensorsSink implements ModelSink {
  readonly name = "tensor iterator";
  readonly parallel = true;
  readonly handover = new Handover<ReceivedTensor>();
  #model: SinkModel | undefined;
  /** The last tensor that was begun, or given; bytes of it that are missing; and its memory. */
  #at = -1;
  #missing = 0;
  #data: Uint8Array = new Uint8Array(0);
  /** Waits for them. */
  #filled: Deferred<void> | undefined;
  #lent: Uint8Array | undefined;

  constructor(private readonly options: TensorsSinkOptions = {}) {}

  async open(model: SinkModel): Promise<void> {
    this.#model = model;
    let largest = 0;
    let largestBytes = 0;
    // Found out now, before any data is sent.
    model.manifest.tensors.forEach((_, i) => {
      const bytes = this.#bytes(i);
      if (bytes > constants.MAX_LENGTH) throw this.#tooLarge(i);
      if (bytes > largestBytes) {
        largest = i;
        largestBytes = bytes;
      }
    });
    // Zeros cost no memory until they are written.
    if (this.options.borrow && model.manifest.tensors.length) this.#lent = this.#allocate(largest);
  }

  #bytes(i: number): number {
    const { manifest, dtypes } = this.#model!;
    return byteLength(dtypes[i]!, elementCount(manifest.tensors[i]!.shape));
  }

  #allocate(i: number): Uint8Array {
    try {
      return new Uint8Array(this.#bytes(i));
    } catch (cause) {
      throw this.#tooLarge(i, cause);
    }
  }

  #tooLarge(i: number, cause?: unknown): TensorwireError {
    const message = `${this.#bytes(i)} bytes are more than this runtime can hold in one buffer: iterate over chunks() instead`;
    return new TensorwireError("TENSOR_TOO_LARGE", message, {
      tensor: this.#model!.manifest.tensors[i]!.name,
      cause,
    });
  }

  place(chunk: Chunk, bytes: number): Answer<Uint8Array> {
    const { tensor } = chunk;
    if (tensor === this.#at) return this.#slice(chunk, bytes);
    const next = tensor === this.#at + 1 && this.#missing === 0;
    if (next && this.handover.asked) return this.#start(chunk, bytes);
    const turn = next ? this.handover.wanted() : this.#before(tensor);
    return turn.then(() => this.#start(chunk, bytes));
  }

  #start(chunk: Chunk, bytes: number): Uint8Array {
    this.#at = chunk.tensor;
    // A tensor of one chunk, as small ones are, is as long as that.
    this.#missing = this.#model!.plan.range(chunk.tensor).count === 1 ? bytes : this.#bytes(chunk.tensor);
    this.#data = this.#lent?.subarray(0, this.#missing) ?? this.#allocate(chunk.tensor);
    this.#filled = undefined;
    return this.#slice(chunk, bytes);
  }

  #slice(chunk: Chunk, bytes: number): Uint8Array {
    const offset = byteLength(this.#model!.dtypes[chunk.tensor]!, chunk.first);
    return this.#data.subarray(offset, offset + bytes);
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
      this.#give(this.#at, new Uint8Array(0));
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

  #give(i: number, data: Uint8Array): void {
    const { manifest, dtypes } = this.#model!;
    const { name, shape } = manifest.tensors[i]!;
    this.handover.put({ name, dtype: dtypes[i]!, shape, data }, i === manifest.tensors.length - 1);
  }

  write(chunk: Chunk, bytes: Uint8Array): undefined {
    this.#missing -= bytes.length;
    if (this.#missing > 0) return;
    this.#give(chunk.tensor, this.#data);
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
    this.#lent = undefined;
    this.#data = new Uint8Array(0);
  }
}
