import {
  type Chunk,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  isFloatDType,
  type Manifest,
  Packing,
  TensorwireError,
} from "@tensorwire/core";
import { specOf } from "../session/exact.js";
import type { EncodedSink } from "../sink/sink.js";
import type { Scratch } from "./scratch.js";

/**
 * Whether looking at payloads as they arrive says that all values are finite. Of halves that a codec of blocks has encoded it does
 * not: a scale can be finite, and its values not as what they are decoded to.
 */
export function tellsFinite({ tensors }: Manifest): boolean {
  return tensors.every(({ dtype, codec }) => {
    const half = dtype === "F16" || dtype === "BF16";
    return !half || ["none", "lossless", "float16", "bfloat16"].includes(codec.name);
  });
}

/** A sink that takes no chunk in which a value is NaN or infinite. */
export function finiteSink(
  sink: EncodedSink,
  manifest: Manifest,
  backend: CodecBackend,
  registry: CodecRegistry,
  scratch: Scratch,
): EncodedSink {
  const { writeEncoded } = sink;
  sink.writeEncoded = (chunk, record, payload) => {
    const { dtype } = manifest.tensors[chunk.tensor]!;
    if (!isFloatDType(dtype)) return writeEncoded.call(sink, chunk, record, payload);
    return look(chunk, record, payload).then(() => writeEncoded.call(sink, chunk, record, payload));
  };

  async function look(chunk: Chunk, record: ChunkRecord, payload: Uint8Array): Promise<void> {
    const { dtype, codec: spec, name } = manifest.tensors[chunk.tensor]!;
    const codec = specOf(registry.byId(record.codec), spec) ?? spec;
    const job = {
      ...{ codec, dtype, elements: chunk.elements, payload },
      output: dtype === "F64" ? ("F64" as const) : ("F32" as const),
    };
    const packed = record.packing !== Packing.RAW;
    const { finite } = await (packed
      ? scratch.lend(record.payloadBytes, async (unpacked) => backend.finite({ ...job, unpacked }))
      : backend.finite(job));
    if (finite) return;
    const message = "a value is NaN or infinite: such updates are not taken here";
    throw new TensorwireError("VALUE_NOT_FINITE", message, { tensor: name, chunk: chunk.index });
  }
  return sink;
}
