import {
  type ChunkPlan,
  type ChunkRecord,
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
  TensorwireError,
  verifyFrame,
} from "@tensorwire/core";
import { inFile } from "../source/file-fault.js";
import type { ByteView } from "./byte-view.js";

/** A frame's header and, below it, what else of the frame its checksum covers: a record table, or all of the body. */
export interface ArtifactFrame {
  readonly position: number;
  readonly header: FrameHeader;
  readonly covered: Uint8Array;
}

/** What an artifact begins with. */
export interface ArtifactHead {
  readonly hello: Hello;
  readonly manifest: Manifest;
  /** The manifest's bytes, as the digest takes them. */
  readonly bytes: Uint8Array;
  readonly plan: ChunkPlan;
  readonly transfer: number;
}

/** Faults that are not the file's: this side lacks something, or forbids it. */
const KEPT: readonly ErrorCode[] = [
  "LIMIT_EXCEEDED",
  "CODEC_UNSUPPORTED",
  "VERSION_UNSUPPORTED",
  "SOURCE_CHANGED",
  "SOURCE_READ",
];

const RECOVERY =
  "copy it again or, to go on from the whole frames that it has, put .part behind its name and run again what wrote it";

/** The frames of an artifact, one after the other, each within its checksum and its place; payloads are passed over. */
export class ArtifactFrames {
  #transfer: number | undefined;

  /**
   * @param position Where to begin.
   * @param part What the bytes are, where they are not the whole file.
   */
  constructor(
    private readonly bytes: ByteView,
    private readonly limits: Limits,
    private readonly registry: CodecRegistry,
    public position = 0,
    private readonly part?: string | undefined,
  ) {}

  /** Preamble, HELLO and MANIFEST. */
  async head(): Promise<ArtifactHead> {
    const preamble = await this.bytes.view(0, Math.min(PREAMBLE.length, this.bytes.size));
    if (preamble.length < PREAMBLE.length || preamble.some((byte, i) => byte !== PREAMBLE[i])) {
      throw this.fault(0, "this is no artifact: it does not begin as one does");
    }
    this.position = PREAMBLE.length;
    const hello = this.#hello(await this.next(FrameType.HELLO));
    const { position, header, covered: bytes } = await this.next(FrameType.MANIFEST);
    const parsed = this.within(position, () => parseManifest(bytes, this.limits, this.registry));
    this.#transfer = header.transfer;
    return { hello, bytes, transfer: header.transfer, ...parsed };
  }

  #hello({ position, header, covered }: ArtifactFrame): Hello {
    return this.within(position, () => {
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

  /** The frames behind this one must be of this transfer. */
  of(transfer: number): this {
    this.#transfer = transfer;
    return this;
  }

  /** The next frame, verified, which must be of one of these types; the position is then behind it, payloads and all. */
  async next(...types: readonly FrameType[]): Promise<ArtifactFrame> {
    const { position } = this;
    const wanted = types.map(frameName).join(" or ");
    const left = this.bytes.size - position;
    if (left < HEADER_BYTES) {
      throw this.truncated(position, `it ends where a ${wanted} frame should begin`);
    }
    const bytes = (await this.bytes.view(position, HEADER_BYTES)).slice();
    const header = this.within(position, () => parseHeader(bytes));
    const name = frameName(header.type);
    if (!types.includes(header.type)) {
      throw this.fault(position, `a ${name} frame where ${wanted} should be`);
    }
    const missing = HEADER_BYTES + header.bodyBytes - left;
    if (missing > 0) {
      throw this.truncated(position, `it ends ${missing} bytes before its ${name} frame does`);
    }
    const length = await this.#coveredBytes(position, header);
    const covered = await (header.type === FrameType.DATA
      ? this.bytes.view(position + HEADER_BYTES, length)
      : this.bytes.copy(position + HEADER_BYTES, length));
    this.within(position, () => {
      verifyFrame(bytes, header, covered);
      if (header.flags !== 0) throw new TensorwireError("PROTOCOL", `a ${name} frame towards the sender`);
      this.#checkTransfer(header);
    });
    this.position = position + HEADER_BYTES + header.bodyBytes;
    return { position, header, covered };
  }

  /** The header of the next frame, if that is one. */
  async peek(): Promise<FrameHeader | undefined> {
    try {
      return parseHeader(await this.bytes.view(this.position, HEADER_BYTES));
    } catch {
      return undefined;
    }
  }

  #checkTransfer({ type, transfer }: FrameHeader): void {
    if (this.#transfer === undefined || transfer === this.#transfer) return;
    const message = `a ${frameName(type)} frame of transfer ${transfer}, after the manifest of ${this.#transfer}`;
    throw new TensorwireError("PROTOCOL", message);
  }

  /** Bytes of the body that the checksum covers, bounded before they are read. */
  async #coveredBytes(position: number, { type, bodyBytes }: FrameHeader): Promise<number> {
    // That of an index follows from its plan: whoever reads it has compared.
    if (type === FrameType.INDEX) return bodyBytes;
    if (type !== FrameType.DATA) {
      const limit = type === FrameType.MANIFEST ? "maxManifestBytes" : "maxControlBytes";
      this.within(position, () =>
        checkLimit(this.limits, limit, bodyBytes, `the body of a ${frameName(type)} frame`),
      );
      return bodyBytes;
    }
    this.within(position, () => {
      checkLimit(this.limits, "maxFrameBytes", bodyBytes, "the body of a DATA frame");
      if (bodyBytes < COUNT_BYTES)
        throw new TensorwireError("PROTOCOL", `a DATA frame of ${bodyBytes} bytes`);
    });
    const count = await this.bytes.view(position + HEADER_BYTES, COUNT_BYTES);
    const records = new DataView(count.buffer, count.byteOffset).getUint32(0, true);
    try {
      return dataTableBytes(records, bodyBytes, this.limits);
    } catch (error) {
      // The count is not verified before the table is read: any fault is the file's.
      throw inFile(error, this.bytes.name, position, "SOURCE_INVALID");
    }
  }

  /** The records of a DATA frame, each with the place of its payload. */
  *records({ position, header, covered }: ArtifactFrame): Generator<ChunkRecord & { position: number }> {
    let payload = position + HEADER_BYTES + covered.length;
    for (const record of this.within(position, () => parseDataTable(covered, header.bodyBytes))) {
      yield { ...record, position: payload };
      payload += record.packedBytes;
    }
  }

  within<T>(position: number, parse: () => T): T {
    return withinArtifact(this.bytes.name, position, parse);
  }

  /** Bytes behind this position. */
  get left(): number {
    return this.bytes.size - this.position;
  }

  truncated(position: number, how: string): TensorwireError {
    if (this.part !== undefined) return this.fault(position, `${this.part}: ${how}`);
    return this.fault(position, `the file is truncated: ${how}; ${RECOVERY}`);
  }

  fault(position: number, message: string): TensorwireError {
    return artifactFault(this.bytes.name, position, message);
  }
}

/** What core finds wrong is wrong at this place of the file. */
export function withinArtifact<T>(name: string, position: number, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const kept = error instanceof TensorwireError && KEPT.includes(error.code);
    throw inFile(error, name, position, kept ? undefined : "SOURCE_INVALID");
  }
}

export function artifactFault(name: string, position: number, message: string): TensorwireError {
  return inFile(new TensorwireError("SOURCE_INVALID", message), name, position);
}
