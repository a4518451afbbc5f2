import {
  type ChunkPlan,
  COUNT_BYTES,
  type CodecRegistry,
  checkLimit,
  dataTableBytes,
  type ErrorCode,
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  type Hello,
  HelloSchema,
  type Limits,
  type Manifest,
  PREAMBLE,
  PROTOCOL_VERSION,
  parseDataTable,
  parseHeader,
  parseJson,
  parseManifest,
  parseTotals,
  RECORD_BYTES,
  TensorwireError,
  type Totals,
  TransferDigest,
  verifyFrame,
} from "@tensorwire/core";
import { ExpectedChunks } from "../session/expected-chunks.js";
import type { ByteReader } from "./byte-reader.js";
import { inFile } from "./file-fault.js";
import { FileWindow } from "./file-window.js";
import { READ_AHEAD_BYTES } from "./source.js";

/** What an artifact holds, and where: all of it but the payloads, which were passed over. */
export interface ArtifactIndex {
  readonly hello: Hello;
  readonly manifest: Manifest;
  /** The manifest's bytes, as the digest takes them. */
  readonly bytes: Uint8Array;
  readonly plan: ChunkPlan;
  readonly totals: Totals;
  /** For each chunk of the plan: where its payload lies, how long it is, and packed, its codec's number and its hash. */
  readonly positions: Float64Array;
  readonly payloadBytes: Uint32Array;
  /** The same as the payload where that is not packed. */
  readonly packedBytes: Uint32Array;
  readonly codecs: Uint16Array;
  readonly hashes: BigUint64Array;
}

/** A frame's header and, below it, what else of the frame its checksum covers: a record table, or all of the body. */
interface Frame {
  readonly position: number;
  readonly header: FrameHeader;
  readonly covered: Uint8Array;
}

/** Faults that are not the file's: this side lacks something, or forbids it. */
const KEPT: readonly ErrorCode[] = [
  "LIMIT_EXCEEDED",
  "CODEC_UNSUPPORTED",
  "VERSION_UNSUPPORTED",
  "SOURCE_CHANGED",
  "SOURCE_READ",
];

/**
 * Reads every frame of an artifact but the payloads, verifies checksums, manifest, chunks and digest, and notes where
 * each payload lies.
 * @throws TensorwireError `SOURCE_INVALID` that says what is wrong and where.
 */
export async function indexArtifact(
  file: ByteReader,
  limits: Limits,
  registry: CodecRegistry,
): Promise<ArtifactIndex> {
  return new ArtifactScan(file, limits, registry).run();
}

class ArtifactScan {
  #position = 0;
  readonly #window: FileWindow;

  constructor(
    private readonly file: ByteReader,
    private readonly limits: Limits,
    private readonly registry: CodecRegistry,
  ) {
    this.#window = new FileWindow(file);
  }

  async run(): Promise<ArtifactIndex> {
    await this.#preamble();
    const hello = this.#hello(await this.#frame(FrameType.HELLO));
    const announcing = await this.#frame(FrameType.MANIFEST);
    // The digest is taken over these very bytes.
    const manifestBytes = announcing.covered;
    const { transfer } = announcing.header;
    const { manifest, plan } = this.#within(announcing.position, () =>
      parseManifest(manifestBytes, this.limits, this.registry),
    );
    this.#checkRoom(plan, announcing.position);
    const index = {
      positions: new Float64Array(plan.chunks),
      payloadBytes: new Uint32Array(plan.chunks),
      packedBytes: new Uint32Array(plan.chunks),
      codecs: new Uint16Array(plan.chunks),
      hashes: new BigUint64Array(plan.chunks),
    };
    const expected = new ExpectedChunks(manifest, plan, this.registry);
    const digest = new TransferDigest(plan);
    let frame = await this.#frame(FrameType.DATA, FrameType.END);
    for (; frame.header.type === FrameType.DATA; frame = await this.#frame(FrameType.DATA, FrameType.END)) {
      const { position, covered } = frame;
      this.#within(position, () => this.#checkTransfer(frame, transfer));
      this.#within(position, () => this.#records(frame, covered, expected, plan, index, digest));
    }
    const totals = this.#within(frame.position, () => {
      this.#checkTransfer(frame, transfer);
      expected.end();
      const totals = parseTotals("END", frame.covered, manifest.integrity);
      checkTotals(totals, plan, digest.transfer(manifestBytes, manifest.tensors.length));
      return totals;
    });
    const left = this.file.size - this.#position;
    if (left > 0) throw this.#fault(this.#position, `${left} bytes follow the END frame`);
    return { hello, manifest, bytes: manifestBytes, plan, totals, ...index };
  }

  async #preamble(): Promise<void> {
    const bytes = await this.#window.view(0, Math.min(PREAMBLE.length, this.file.size));
    if (bytes.length < PREAMBLE.length || bytes.some((byte, i) => byte !== PREAMBLE[i])) {
      throw this.#fault(0, "this is no artifact: it does not begin as one does");
    }
    this.#position = PREAMBLE.length;
  }

  /** The next frame, verified, which must be of one of these types; the position is then behind it, payloads and all. */
  async #frame(...types: readonly FrameType[]): Promise<Frame> {
    const position = this.#position;
    const wanted = types.map(frameName).join(" or ");
    const left = this.file.size - position;
    if (left < HEADER_BYTES) {
      throw this.#fault(position, `the file is truncated: it ends where a ${wanted} frame should begin`);
    }
    const bytes = (await this.#window.view(position, HEADER_BYTES)).slice();
    const header = this.#within(position, () => parseHeader(bytes));
    const name = frameName(header.type);
    if (!types.includes(header.type)) {
      throw this.#fault(position, `a ${name} frame where ${wanted} should be`);
    }
    const missing = HEADER_BYTES + header.bodyBytes - left;
    if (missing > 0) {
      throw this.#fault(
        position,
        `the file is truncated: it ends ${missing} bytes before its ${name} frame does`,
      );
    }
    const length = await this.#coveredBytes(position, header);
    const covered = await (header.type === FrameType.DATA
      ? this.#window.view(position + HEADER_BYTES, length)
      : this.#window.copy(position + HEADER_BYTES, length));
    this.#within(position, () => {
      verifyFrame(bytes, header, covered);
      if (header.flags !== 0) throw new TensorwireError("PROTOCOL", `a ${name} frame towards the sender`);
    });
    this.#position = position + HEADER_BYTES + header.bodyBytes;
    return { position, header, covered };
  }

  /** Bytes of the body that the checksum covers, bounded before they are read. */
  async #coveredBytes(position: number, { type, bodyBytes }: FrameHeader): Promise<number> {
    if (type !== FrameType.DATA) {
      const limit = type === FrameType.MANIFEST ? "maxManifestBytes" : "maxControlBytes";
      this.#within(position, () =>
        checkLimit(this.limits, limit, bodyBytes, `the body of a ${frameName(type)} frame`),
      );
      return bodyBytes;
    }
    this.#within(position, () => {
      checkLimit(this.limits, "maxFrameBytes", bodyBytes, "the body of a DATA frame");
      if (bodyBytes < COUNT_BYTES)
        throw new TensorwireError("PROTOCOL", `a DATA frame of ${bodyBytes} bytes`);
    });
    const count = await this.#window.view(position + HEADER_BYTES, COUNT_BYTES);
    const records = new DataView(count.buffer, count.byteOffset).getUint32(0, true);
    try {
      return dataTableBytes(records, bodyBytes, this.limits);
    } catch (error) {
      // The count is not verified before the table is read: any fault is the file's.
      throw inFile(error, this.file.name, position, "SOURCE_INVALID");
    }
  }

  #hello({ position, header, covered }: Frame): Hello {
    return this.#within(position, () => {
      if (header.transfer !== 0)
        throw new TensorwireError("PROTOCOL", `HELLO of transfer ${header.transfer}`);
      const hello = parseJson(FrameType.HELLO, HelloSchema, covered);
      if (hello.versions.includes(PROTOCOL_VERSION)) return hello;
      throw new TensorwireError(
        "VERSION_UNSUPPORTED",
        `written by ${hello.software} for versions ${hello.versions}; this side speaks ${PROTOCOL_VERSION}`,
      );
    });
  }

  /** Each chunk takes a record: what the file has no room for gets no memory here. */
  #checkRoom({ chunks }: ChunkPlan, position: number): void {
    const room = Math.floor((this.file.size - this.#position) / RECORD_BYTES);
    if (chunks > room) {
      throw this.#fault(position, `the file is truncated: it has room for ${room} of its ${chunks} chunks`);
    }
  }

  #checkTransfer({ header }: Frame, transfer: number): void {
    if (header.transfer === transfer) return;
    const message = `a ${frameName(header.type)} frame of transfer ${header.transfer}, after the manifest of ${transfer}`;
    throw new TensorwireError("PROTOCOL", message);
  }

  #records(
    { position, header }: Frame,
    table: Uint8Array,
    expected: ExpectedChunks,
    plan: ChunkPlan,
    index: Pick<ArtifactIndex, "positions" | "payloadBytes" | "packedBytes" | "codecs" | "hashes">,
    digest: TransferDigest,
  ): void {
    let payload = position + HEADER_BYTES + table.length;
    for (const record of parseDataTable(table, header.bodyBytes)) {
      const { ordinal } = expected.take(record);
      // Whoever reads the payload has buffers for the largest chunk, and for reading ahead.
      if (record.payloadBytes > Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES)) {
        throw new TensorwireError(
          "PROTOCOL",
          `a payload of ${record.payloadBytes} bytes, larger than any chunk`,
        );
      }
      index.positions[ordinal] = payload;
      index.payloadBytes[ordinal] = record.payloadBytes;
      index.packedBytes[ordinal] = record.packedBytes;
      index.codecs[ordinal] = record.codec;
      index.hashes[ordinal] = record.hash;
      digest.add(ordinal, record.codec, record.hash);
      payload += record.packedBytes;
    }
  }

  #within<T>(position: number, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      const kept = error instanceof TensorwireError && KEPT.includes(error.code);
      throw inFile(error, this.file.name, position, kept ? undefined : "SOURCE_INVALID");
    }
  }

  #fault(position: number, message: string): TensorwireError {
    return inFile(new TensorwireError("SOURCE_INVALID", message), this.file.name, position);
  }
}

function checkTotals(totals: Totals, plan: ChunkPlan, digest: bigint): void {
  if (totals.digest !== digest) {
    throw new TensorwireError(
      "PROTOCOL",
      "the END frame's digest is not that of the manifest and the chunks",
    );
  }
  if (totals.chunks !== plan.chunks || totals.sourceBytes !== plan.bytes) {
    throw new TensorwireError(
      "PROTOCOL",
      `the END frame counts ${totals.chunks} chunks of ${totals.sourceBytes} bytes, the manifest ${plan.chunks} of ${plan.bytes}`,
    );
  }
}
