import {
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  type CodecRegistry,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { specOf } from "./exact.js";

/** The chunks that a receiver asked for, in their order: each record that comes must be the next one's. */
export class ExpectedChunks {
  readonly #chunks: Iterator<Chunk, void>;

  constructor(
    private readonly manifest: Manifest,
    plan: ChunkPlan,
    private readonly registry: CodecRegistry,
  ) {
    this.#chunks = plan.walk();
  }

  /**
   * The chunk that a record announces, once everything it says is checked against manifest and plan.
   * @throws TensorwireError `PROTOCOL`, `CODEC_UNSUPPORTED`, `PAYLOAD_INVALID`.
   */
  take(record: ChunkRecord): Chunk {
    const chunk = this.#chunks.next().value;
    if (
      !chunk ||
      chunk.tensor !== record.tensor ||
      chunk.first !== record.firstElement ||
      chunk.elements !== record.elements
    ) {
      throw this.#outOfOrder(record, chunk ?? undefined);
    }
    const { codec: spec, dtype, name } = this.manifest.tensors[chunk.tensor]!;
    const at = { tensor: name, chunk: chunk.index };
    const codec = this.registry.byId(record.codec);
    const own = specOf(codec, spec);
    if (!own || !codec.supports(dtype)) {
      throw new TensorwireError("PROTOCOL", `the chunk is ${codec.name}, the manifest says ${spec.name}`, at);
    }
    const sizes = codec.payloadSizes?.(own, dtype, chunk.elements);
    const bytes = sizes ?? codec.payloadBytes(own, dtype, chunk.elements);
    if (sizes ? !sizes.includes(record.payloadBytes) : bytes !== record.payloadBytes) {
      const message = `a payload of ${record.payloadBytes} bytes where ${codec.name} makes ${bytes}`;
      throw new TensorwireError("PAYLOAD_INVALID", message, at);
    }
    return chunk;
  }

  /** The peer says that there is no more. @throws TensorwireError `PROTOCOL` where there should be. */
  end(): void {
    const missing = this.#chunks.next().value;
    if (!missing) return;
    const { name } = this.manifest.tensors[missing.tensor]!;
    throw new TensorwireError("PROTOCOL", "END came before this chunk", {
      tensor: name,
      chunk: missing.index,
    });
  }

  #outOfOrder(record: ChunkRecord, chunk: Chunk | undefined): TensorwireError {
    const { tensors } = this.manifest;
    const found = tensors[record.tensor];
    const what = `elements ${record.firstElement}+${record.elements} of ${found ? quote(found.name) : `tensor ${record.tensor}`}`;
    if (!chunk) return new TensorwireError("PROTOCOL", `${what} came after the last chunk`);
    return new TensorwireError("PROTOCOL", `${what} came in the place of this chunk`, {
      tensor: tensors[chunk.tensor]!.name,
      chunk: chunk.index,
    });
  }
}
