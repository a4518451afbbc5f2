import {
  BATCH_BYTES,
  BATCH_RECORDS,
  type Channel,
  type Chunk,
  type ChunkRecord,
  COUNT_BYTES,
  type CodecRegistry,
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  type Hello,
  PREAMBLE,
  PROTOCOL_VERSION,
  quote,
  RECORD_BYTES,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { fileWriteChannel } from "../channel/file.js";
import type { TargetOptions } from "./part-file.js";
import type { EncodedSink, SinkModel } from "./sink.js";

export interface ArtifactOptions extends TargetOptions {
  /** Codecs by which the size is estimated before any data. Default: all of this library. */
  readonly registry?: CodecRegistry | undefined;
}

// A file holds one transfer.
const TRANSFER = 1;

/**
 * Keeps a model encoded, as it travelled: the file is what a channel without a way back would carry. The same chunks give
 * the same file, whenever they come.
 */
export function artifactSink(path: string, options: ArtifactOptions = {}): EncodedSink {
  return new ArtifactSink(path, options);
}

class ArtifactSink implements EncodedSink {
  #channel: Channel | undefined;
  /** Small payloads of the frame that is being collected. */
  readonly #batch = new Uint8Array(BATCH_BYTES);
  #batchBytes = 0;
  #records: ChunkRecord[] = [];

  constructor(
    readonly name: string,
    private readonly options: ArtifactOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    const { manifest, dtypes, bytes } = model;
    if (manifest.tensors.some(({ dtype }, i) => dtype !== dtypes[i])) {
      const message = `${quote(this.name)} keeps the model as it travelled, dtypes and all: leave out outputDtype`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const { overwrite, registry = defaultCodecs } = this.options;
    this.#channel = await fileWriteChannel(this.name, {
      overwrite,
      expectedBytes: estimate(model, registry),
    });
    this.#channel.open({ bytes() {}, end() {} });
    const hello = encodeFrame(FrameType.HELLO, 0, 0, encodeJson(helloFor(model)));
    await this.#channel.send([PREAMBLE, hello, encodeFrame(FrameType.MANIFEST, TRANSFER, 0, bytes)]);
  }

  writeEncoded(_chunk: Chunk, record: ChunkRecord, payload: Uint8Array): Promise<void> | undefined {
    if (payload.length >= BATCH_BYTES) return this.#writeLarge(record, payload);
    if (this.#batchBytes + payload.length > BATCH_BYTES || this.#records.length === BATCH_RECORDS) {
      return this.#flush().then(() => this.#add(record, payload));
    }
    this.#add(record, payload);
    return undefined;
  }

  #add(record: ChunkRecord, payload: Uint8Array): void {
    this.#batch.set(payload, this.#batchBytes);
    this.#batchBytes += payload.length;
    this.#records.push(record);
  }

  async #writeLarge(record: ChunkRecord, payload: Uint8Array): Promise<void> {
    await this.#flush();
    await this.#channel!.send([encodeDataHead(TRANSFER, [record]), payload]);
  }

  async #flush(): Promise<void> {
    if (!this.#records.length) return;
    const head = encodeDataHead(TRANSFER, this.#records);
    const payloads = this.#batch.subarray(0, this.#batchBytes);
    this.#records = [];
    this.#batchBytes = 0;
    await this.#channel!.send([head, payloads]);
  }

  async finish(totals: Totals): Promise<void> {
    await this.#flush();
    await this.#channel!.send([encodeFrame(FrameType.END, TRANSFER, 0, encodeTotals(totals))]);
    await this.#channel!.close();
  }

  async abort(error: TensorwireError): Promise<void> {
    // A close that failed has left nothing either.
    await this.#channel?.close(error).catch(() => {});
  }
}

/** The same for every receiver, so that the file depends on the model alone. */
function helloFor({ manifest }: SinkModel): Hello {
  const { maxChunkBytes, maxManifestBytes } = DEFAULT_LIMITS;
  return {
    versions: [PROTOCOL_VERSION],
    software: "tensorwire",
    role: "send",
    codecs: [...new Set(manifest.tensors.map(({ codec }) => codec.name))],
    limits: { maxChunkBytes, maxManifestBytes },
  };
}

/** About what the file will take: chunks that fall back take more, packed ones less. */
function estimate({ manifest, plan, bytes }: SinkModel, registry: CodecRegistry): number {
  let total = PREAMBLE.length + 2 * HEADER_BYTES + bytes.length + COUNT_BYTES + plan.chunks * RECORD_BYTES;
  const known = new Set(registry.names());
  manifest.tensors.forEach(({ codec, dtype }, i) => {
    const { first, count } = plan.range(i);
    if (count === 0 || !known.has(codec.name)) return;
    const payloadBytes = (elements: number): number =>
      registry.get(codec.name).payloadBytes(codec, dtype, elements);
    const whole = (count - 1) * payloadBytes(plan.chunk(first).elements);
    total += whole + payloadBytes(plan.chunk(first + count - 1).elements);
  });
  return total;
}
