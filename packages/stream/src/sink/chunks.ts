import { byteLength, type Chunk, type DType, type TensorwireError } from "@tensorwire/core";
import { Handover } from "./handover.js";
import type { ModelSink, SinkModel } from "./sink.js";

/** A run of consecutive elements of a tensor, decoded. */
export interface ReceivedChunk {
  /** Name of the tensor. */
  readonly name: string;
  /** Of its elements. */
  readonly dtype: DType;
  /** Of its tensor. */
  readonly shape: readonly number[];
  /** First element, how many, and where they lie in the tensor's bytes. */
  readonly first: number;
  /** How many. */
  readonly elements: number;
  /** Byte of the tensor that it begins at. */
  readonly offset: number;
  /** The chunk ends its tensor. */
  readonly last: boolean;
  /** Lent until the next step. */
  readonly data: Uint8Array;
}

/** Yields chunks as they are decoded, in order, for consumers that want less than a tensor. Always lends. */
export class ChunksSink implements ModelSink {
  readonly name = "chunk iterator";
  readonly parallel = false;
  readonly handover = new Handover<ReceivedChunk>();
  #model: SinkModel | undefined;

  async open(model: SinkModel): Promise<void> {
    this.#model = model;
  }

  async write(chunk: Chunk, data: Uint8Array): Promise<void> {
    const { manifest, dtypes, plan } = this.#model!;
    const { name, shape } = manifest.tensors[chunk.tensor]!;
    const dtype = dtypes[chunk.tensor]!;
    const last = chunk.index === plan.range(chunk.tensor).count - 1;
    await this.handover.wanted();
    const { first, elements } = chunk;
    const received = { name, dtype, shape, first, elements, offset: byteLength(dtype, first), last, data };
    this.handover.put(received, chunk.ordinal === plan.chunks - 1);
    // The consumer's next step gives the bytes back.
    await this.handover.wanted();
  }

  async finish(): Promise<void> {
    await this.handover.wanted();
    this.handover.end();
  }

  async abort(error: TensorwireError): Promise<void> {
    this.handover.fail(error);
  }
}
