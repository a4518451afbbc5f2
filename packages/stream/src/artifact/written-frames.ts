import {
  BufferPool,
  type Chunk,
  type ChunkDigest,
  type ChunkPlan,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  DEFAULT_LIMITS,
  defaultCodecs,
  FrameType,
  Packing,
  PortableBackend,
} from "@tensorwire/core";
import { sha256Of } from "../session/sha256.js";
import type { PartFile } from "../sink/part-file.js";
import type { SinkModel } from "../sink/sink.js";
import { ByteWindow } from "./byte-view.js";
import { largestPayload } from "./checks.js";
import { ArtifactFrames } from "./frames.js";
import { PayloadCheck } from "./payload-check.js";

type PlacedRecord = ChunkRecord & { readonly position: number };

/** A whole frame of a part file. */
export interface WrittenFrame {
  readonly records: readonly PlacedRecord[];
  /** Where the frame ends. */
  readonly end: number;
}

/** A chunk that a part file has, verified. */
export interface RecoveredChunk {
  readonly ordinal: number;
  readonly record: PlacedRecord;
  readonly digest: ChunkDigest;
}

// This side has written them, whatever its limits are now.
const LIMITS = { ...DEFAULT_LIMITS, maxFrameBytes: 2 ** 32 - 1 };

/** The DATA frames of an unfinished artifact, as far as they are whole, and of the plan's chunks in order. */
export async function* writtenFrames(
  file: PartFile,
  plan: ChunkPlan,
  from: number,
  transfer: number,
): AsyncGenerator<WrittenFrame, void> {
  const reader = {
    name: file.path,
    size: file.bytes,
    readInto: (position: number, target: Uint8Array) => file.readInto(position, target),
  };
  const frames = new ArtifactFrames(new ByteWindow(reader), LIMITS, defaultCodecs, from).of(transfer);
  const chunks = plan.walk();
  for (;;) {
    const records = await nextRecords(frames);
    if (!records?.every((record) => isOf(record, chunks.next().value ?? undefined))) return;
    yield { records, end: frames.position };
  }
}

/** Undefined where what follows is no whole DATA frame: what is behind it is of no use. */
async function nextRecords(frames: ArtifactFrames): Promise<PlacedRecord[] | undefined> {
  try {
    return [...frames.records(await frames.next(FrameType.DATA))];
  } catch {
    return undefined;
  }
}

function isOf({ tensor, firstElement, elements }: ChunkRecord, chunk: Chunk | undefined): boolean {
  return chunk?.tensor === tensor && chunk.first === firstElement && chunk.elements === elements;
}

/** The same, with each payload read and verified: for a file of which nothing else says what is in it. */
export async function* recoveredFrames(
  file: PartFile,
  model: SinkModel,
  from: number,
  transfer: number,
  options: {
    readonly backend?: Pick<CodecBackend, "hash" | "unpack"> | undefined;
    readonly registry?: CodecRegistry | undefined;
  },
): AsyncGenerator<{ chunks: readonly RecoveredChunk[]; end: number }, void> {
  const { registry = defaultCodecs, backend = new PortableBackend(registry) } = options;
  const { plan, manifest } = model;
  const recovery = new Recovery(file, model, new PayloadCheck(manifest, backend, registry));
  for await (const { records, end } of writtenFrames(file, plan, from, transfer)) {
    const chunks: RecoveredChunk[] = [];
    for (const record of records) {
      const chunk = await recovery.chunk(record);
      if (!chunk) return;
      chunks.push(chunk);
    }
    yield { chunks, end };
  }
}

class Recovery {
  readonly #pool: BufferPool;
  #next = 0;

  constructor(
    private readonly file: PartFile,
    private readonly model: SinkModel,
    private readonly check: PayloadCheck,
  ) {
    this.#pool = new BufferPool(largestPayload(model.plan));
  }

  /** Undefined where the payload is not what its record says. */
  async chunk(record: PlacedRecord): Promise<RecoveredChunk | undefined> {
    const { plan, manifest } = this.model;
    const { position, codec, hash, packing, packedBytes, payloadBytes } = record;
    // Nobody who reads the artifact would have a buffer for it.
    if (payloadBytes > this.#pool.slabBytes) return undefined;
    const chunk = plan.chunk(this.#next++);
    const loan = this.#pool.lend(packedBytes);
    const scratch = packing === Packing.RAW ? undefined : this.#pool.lend(payloadBytes);
    try {
      await this.file.readInto(position, loan.bytes);
      if (await this.check.fault(chunk, record, loan.bytes, scratch?.bytes)) return undefined;
      const sha256 = sha256Of(manifest)?.((scratch ?? loan).bytes);
      return { ordinal: chunk.ordinal, record, digest: sha256 ? { codec, hash, sha256 } : { codec, hash } };
    } finally {
      scratch?.release();
      loan.release();
    }
  }
}
