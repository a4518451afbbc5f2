import {
  type Chunk,
  type ChunkPlan,
  type ChunkRange,
  type ChunkRecord,
  type CodecRegistry,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { specOf } from "./exact.js";

/** What may come, of a plan. */
export interface Expectations {
  /** Chunks that must come, in their order. Default: all. */
  readonly ranges?: readonly ChunkRange[] | undefined;
  /** The others may come too, each in its place: they are held, and the sender can find them changed. Default false. */
  readonly changed?: boolean | undefined;
}

/** The chunks that a receiver waits for, in their order: each record that comes must be the next one's. */
export class ExpectedChunks {
  readonly #chunks: Iterator<Chunk, void>;
  readonly #changed: boolean;
  /** The next chunk that must come, and the ordinal of the last one that has. */
  #next: Chunk | undefined;
  #last = -1;

  constructor(
    private readonly manifest: Manifest,
    private readonly plan: ChunkPlan,
    private readonly registry: CodecRegistry,
    { ranges, changed = false }: Expectations = {},
  ) {
    this.#chunks = plan.walk(ranges);
    this.#changed = changed;
    this.#advance();
  }

  #advance(): void {
    this.#next = this.#chunks.next().value ?? undefined;
  }

  /**
   * The chunk that a record announces, once everything it says is checked against manifest and plan.
   * @throws TensorwireError `PROTOCOL`, `CODEC_UNSUPPORTED`, `PAYLOAD_INVALID`.
   */
  take(record: ChunkRecord): Chunk {
    const chunk = this.#chunkOf(record);
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
    this.#last = chunk.ordinal;
    if (chunk === this.#next) this.#advance();
    return chunk;
  }

  #chunkOf(record: ChunkRecord): Chunk {
    const next = this.#next;
    if (next && isOf(record, next)) return next;
    const changed = this.#changed ? this.#named(record) : undefined;
    const end = next?.ordinal ?? this.plan.chunks;
    if (changed && changed.ordinal > this.#last && changed.ordinal < end) return changed;
    throw this.#outOfOrder(record, next);
  }

  /** The chunk of the plan that a record is of, wherever that is. */
  #named(record: ChunkRecord): Chunk | undefined {
    const { plan } = this;
    if (record.tensor >= plan.tensors) return undefined;
    const { first, count } = plan.range(record.tensor);
    const index = count > 0 ? Math.floor(record.firstElement / plan.chunk(first).elements) : 0;
    if (index >= count) return undefined;
    const chunk = plan.chunk(first + index);
    return isOf(record, chunk) ? chunk : undefined;
  }

  /** The peer says that there is no more. @throws TensorwireError `PROTOCOL` where there should be. */
  end(): void {
    const missing = this.#next;
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

function isOf({ tensor, firstElement, elements }: ChunkRecord, chunk: Chunk): boolean {
  return chunk.tensor === tensor && chunk.first === firstElement && chunk.elements === elements;
}
