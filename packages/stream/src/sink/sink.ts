import type {
  Answer,
  Chunk,
  ChunkDigest,
  ChunkPlan,
  ChunkRange,
  ChunkRecord,
  DeviceBytes,
  DType,
  Held,
  Manifest,
  TensorwireError,
  Totals,
  TransferDigest,
} from "@tensorwire/core";

/** What a sink is told before any data. */
export interface SinkModel {
  /** What was announced. */
  readonly manifest: Manifest;
  /** The manifest's bytes, as the digest takes them: another encoder's need not be the ones that ours would make. */
  readonly bytes: Uint8Array;
  /** How it is cut into chunks. */
  readonly plan: ChunkPlan;
  /** The dtype that each tensor arrives in: the source's, or what the receiver asked for. */
  readonly dtypes: readonly DType[];
  /** The version token that the sender gave its source. */
  readonly version?: string | undefined;
}

/** What a sink keeps over an interruption, and has kept from an earlier one. */
export interface Resumable {
  /** Chunks that earlier attempts left here, durable, in ascending runs. Known once `open` has resolved. */
  readonly held: readonly Held[];
  /** They are of the version that `SinkModel.version` names. */
  readonly sameVersion: boolean;
  /**
   * Chunks of another version than the one that `SinkModel.version` names may come from now on: what checkpoints note after
   * the call is of no version that a later attempt could trust.
   */
  mix(): void;
  /** The chunk is written: the next checkpoint makes it durable, and notes it. */
  note(chunk: Chunk, digest: ChunkDigest): void;
  /**
   * Makes durable what was noted before the call: data first, then the journal. One call at a time.
   * @throws TensorwireError `TARGET_FULL`, `TARGET_WRITE`.
   */
  checkpoint(): Promise<void>;
  /** The chunk comes again, of another state of the source: from when this resolves it is held no more, whatever happens. */
  forget(chunk: Chunk): Promise<void>;
}

/** What a sink takes of a model, where that is not all of it, or not in all of the receiver's window. */
export interface Part {
  /** Default: all of it. */
  readonly ranges?: readonly ChunkRange[] | undefined;
  /** Source bytes that may be on their way to it: of the receiver's window, or less. */
  readonly windowBytes: number;
}

interface AnySink {
  /** For messages: a path, or what kind of sink it is. */
  readonly name: string;
  /**
   * Refuses what cannot work (exists, no room, no permission) before any data is taken. Called once.
   * @throws TensorwireError `TARGET_…`, `TENSOR_TOO_LARGE`.
   */
  open(model: SinkModel): Promise<void>;
  /** What it takes of the model. Known once `open` has resolved; default all. The digest is that of the part then. */
  readonly part?: Part | undefined;
  /** Where the sink can go on after an interruption. Known once `open` has resolved. */
  readonly resumable?: Resumable | undefined;
  /**
   * Every chunk is written: makes it durable and visible.
   * @param digest Of all chunks, for sinks that keep what a part of the model can be verified by.
   */
  finish(totals: Totals, digest?: TransferDigest): Promise<void>;
  /**
   * The transfer failed: whatever waits here settles. Nothing is left behind, but for what a later attempt can go on from,
   * where `error` is an interruption (`isInterruption`). Also called after a failure of `open` or `finish`, and where it failed before `open`; never rejects.
   */
  abort(error: TensorwireError): Promise<void>;
}

/** Where a chunk is decoded to. */
export type Place = Uint8Array | DeviceBytes;

/** Takes decoded chunks, in the plan's order. */
export interface ModelSink extends AnySink {
  /** Whether several writes may be under way at once. */
  readonly parallel: boolean;
  /**
   * The memory that the chunk is to be decoded into, of the host or of a device, where the sink has it; else the transfer
   * lends some. Called once a chunk, in order; where it is a promise, that resolves when the sink is ready for it.
   */
  place?(chunk: Chunk, bytes: number): Answer<Place | undefined>;
  /**
   * Takes a decoded chunk. The bytes are lent until the promise resolves, and credit comes back then; `undefined`
   * means at once.
   * @param bytes the place, where the sink gave one: of a sink that gives places of a device, those.
   */
  write(chunk: Chunk, bytes: Uint8Array): Promise<void> | undefined;
}

/** Takes chunks as they travelled, verified but not decoded. */
export interface EncodedSink extends AnySink {
  /**
   * Takes a chunk as it travelled; its bytes are lent until the promise resolves.
   * @param payload packed as the record says.
   * @param sha256 of the unpacked payload, with a manifest of that integrity.
   */
  writeEncoded(
    chunk: Chunk,
    record: ChunkRecord,
    payload: Uint8Array,
    sha256?: Uint8Array | undefined,
  ): Promise<void> | undefined;
}

/** Where a model goes: decoded, or as it travelled. */
export type Sink = ModelSink | EncodedSink;

export function isEncodedSink(sink: Sink): sink is EncodedSink {
  return "writeEncoded" in sink;
}

export function isSink(value: unknown): value is Sink {
  if (typeof value !== "object" || value === null) return false;
  const { open, finish, abort, write, writeEncoded } = value as Record<string, unknown>;
  return [open, finish, abort, write ?? writeEncoded].every((method) => typeof method === "function");
}
