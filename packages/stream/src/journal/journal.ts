import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import {
  type Chunk,
  type ChunkDigest,
  type ChunkPlan,
  type ChunkRange,
  type Held,
  type Integrity,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { isInterruption } from "../session/interruption.js";
import type { Resumable } from "../sink/sink.js";
import { syncFolder } from "../sink/synced.js";
import { targetError } from "../sink/target-error.js";
import { ChunkSet } from "./chunk-set.js";
import { type JournalHead, RECOVERED } from "./head.js";
import { JournalFile } from "./journal-file.js";
import { JournaledChunks } from "./journaled-chunks.js";
import { NotedChunks } from "./noted-chunks.js";
import type { FileIdentity } from "./own-file.js";
import type { JournaledFile } from "./record.js";
import type { Replayed } from "./replay.js";

/** What a journal is kept for. */
export interface JournalTopic extends JournalHead {
  readonly plan: ChunkPlan;
}

/** A part file as its journal sees it. */
export interface PartOfJournal {
  /** The name that it will have, without its folder. */
  readonly name: string;
  readonly identity: FileIdentity;
  /** Bytes that were written, from its beginning to the end of what lies last. */
  readonly bytes: number;
  /** Makes durable what is written. */
  sync(): Promise<void>;
}

/** What a sink that appends has for a checkpoint: of the chunks that are noted at this moment. */
export interface AppendedSoFar {
  /** Bytes of its file. */
  readonly bytes: number;
  /** What is not in the file yet. */
  readonly tail: Uint8Array;
}

/**
 * Forgetting costs the disk's time, however small the chunk: so those that follow, up to so many source bytes, are forgotten
 * with it. If the transfer is interrupted again they are sent again, though they may be the same.
 */
export const FORGOTTEN_TOGETHER_BYTES = 256 * 1024;

const NOTHING = new Uint8Array(0);

/** The journal beside a part file: which chunks are durable in it, so that another attempt goes on from there. */
export class Journal implements Resumable {
  /** Waits until what was written before the call is in the file. A sink that holds bytes back sets it. */
  settle: () => Promise<void> = async () => {};
  /** Asked when a checkpoint begins, by sinks that append. */
  appended: (() => AppendedSoFar | undefined) | undefined;
  #file: JournalFile | undefined;
  #integrity: Integrity | undefined;
  #found: JournaledChunks | undefined;
  #sameVersion = false;
  #mixed = false;
  #recovered = false;
  #tail: Uint8Array = NOTHING;
  #known: ReadonlyMap<string, JournaledFile> = new Map();
  /** Durable chunks, and those that the next checkpoint notes. */
  #held: ChunkSet;
  #durable = 0;
  #noted: NotedChunks | undefined;
  readonly #spare: NotedChunks[] = [];
  /** Each with the size that the last record has of it. */
  readonly #parts = new Map<PartOfJournal, number>();
  /** Checkpoints are written one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #forgetting: Promise<void> = Promise.resolve();
  #failure: unknown;
  #ending: Promise<boolean> | undefined;
  #complete = false;

  private constructor(
    readonly path: string,
    private readonly topic: JournalTopic,
  ) {
    this.#held = new ChunkSet(topic.chunks);
  }

  /** One that has no file until the first checkpoint. */
  static begin(path: string, topic: JournalTopic): Journal {
    return new Journal(path, topic);
  }

  /** One that goes on after what an earlier attempt wrote. */
  static goOn(path: string, topic: JournalTopic, file: FileHandle, replayed: Replayed): Journal {
    const journal = new Journal(path, topic);
    const { head, held, mixed, files, tail } = replayed;
    journal.#file = JournalFile.goOn(path, file, replayed);
    journal.#integrity = head.integrity;
    journal.#found = held;
    journal.#held = held!.set;
    journal.#durable = held!.set.count;
    journal.#known = files;
    journal.#tail = tail;
    const same = head.version !== undefined && head.version === topic.version;
    journal.#sameVersion = same && !mixed;
    journal.#mixed = !same && head.version !== RECOVERED;
    journal.#recovered = head.version === RECOVERED && !mixed;
    return journal;
  }

  get held(): readonly Held[] {
    return this.#found?.runs() ?? [];
  }

  /** What it holds was once found without a journal: of which version, nobody knows. */
  get recovered(): boolean {
    return this.#recovered;
  }

  get sameVersion(): boolean {
    return this.#sameVersion;
  }

  /** Goes on from chunks that no journal tells of. They are durable with the next checkpoint; of which version, nobody knows. */
  recover(noted: NotedChunks, integrity: Integrity): void {
    const found = new JournaledChunks(this.topic.chunks, integrity);
    found.add(noted.bytes, noted.runs);
    this.#integrity = integrity;
    this.#noted = noted;
    this.#found = found;
    this.#held = found.set;
    this.#recovered = true;
  }

  /** Part files of the earlier attempt. */
  get known(): ReadonlyMap<string, JournaledFile> {
    return this.#known;
  }

  /** What the sink of the earlier attempt had taken, and its file did not have. */
  get tail(): Uint8Array {
    return this.#tail;
  }

  /** From now on its checkpoints make this file durable too. */
  add(part: PartOfJournal): void {
    this.#parts.set(part, -1);
  }

  mix(): void {
    this.#mixed = true;
  }

  note({ ordinal }: Chunk, digest: ChunkDigest): void {
    if (this.#ending) return;
    this.#integrity ??= digest.sha256 ? "sha256" : "xxh64";
    this.#noted ??= this.#spare.pop() ?? new NotedChunks(this.#integrity);
    this.#noted.add(ordinal, digest);
    this.#held.add(ordinal);
  }

  checkpoint(): Promise<void> {
    if (this.#ending) return this.#over();
    return this.#commit([]);
  }

  forget(chunk: Chunk): Promise<void> {
    if (this.#ending) return this.#over();
    // Of one that was forgotten with another the record may be on its way still.
    if (this.#held.has(chunk.ordinal)) this.#forgetting = this.#commit([this.#take(chunk)]);
    return this.#forgetting;
  }

  /** The chunk and held ones that follow it, which are held no more. */
  #take({ ordinal: first }: Chunk): ChunkRange {
    let bytes = 0;
    let next = first;
    for (const chunk of this.topic.plan.walk([{ first, count: this.topic.chunks - first }])) {
      bytes += chunk.bytes;
      const more = this.#held.has(next) && bytes <= FORGOTTEN_TOGETHER_BYTES;
      if (next > first && !more) break;
      this.#held.delete(next++);
    }
    return { first, count: next - first };
  }

  /** Writes what is noted now, and what is forgotten, when it is its turn. */
  #commit(forgotten: ChunkRange[]): Promise<void> {
    const noted = this.#noted;
    this.#noted = undefined;
    const appended = this.appended?.();
    const written = this.#turn.then(async () => {
      if (this.#failure) throw this.#failure;
      await this.#write(noted, forgotten, appended);
    });
    this.#turn = written.catch((cause) => {
      this.#failure ??= cause;
    });
    return written;
  }

  async #write(
    noted: NotedChunks | undefined,
    forgotten: ChunkRange[],
    appended: AppendedSoFar | undefined,
  ): Promise<void> {
    if (!noted && (!forgotten.length || !this.#file)) return;
    try {
      const files = noted ? await this.#syncParts(appended) : [];
      const head = this.#recovered ? { ...this.topic, version: RECOVERED } : this.topic;
      this.#file ??= await JournalFile.create(this.path, head, this.#integrity!);
      await this.#file.append({
        mixed: this.#mixed,
        files,
        noted: noted?.bytes ?? NOTHING,
        runs: noted?.runs ?? 0,
        forgotten,
        tail: appended?.tail ?? NOTHING,
      });
      this.#durable += noted?.count ?? 0;
      if (forgotten.length) await this.#file.raiseFloor();
      for (const { count } of forgotten) this.#durable -= count;
    } catch (cause) {
      throw targetError(cause, this.path);
    }
    if (!noted) return;
    noted.clear();
    this.#spare.push(noted);
  }

  async #syncParts(appended: AppendedSoFar | undefined): Promise<JournaledFile[]> {
    await this.settle();
    const files: JournaledFile[] = [];
    await Promise.all(
      [...this.#parts].map(([part, recorded]) => {
        const size = appended?.bytes ?? part.bytes;
        if (size !== recorded) files.push({ ...part.identity, name: part.name, size });
        this.#parts.set(part, size);
        return part.sync();
      }),
    );
    return files;
  }

  /**
   * The transfer failed: after a last checkpoint, where that is of use, nothing more is written.
   * @returns Whether the part files are to stay. If not, the journal is gone.
   */
  end(error: TensorwireError): Promise<boolean> {
    this.#ending ??= this.#finish(isInterruption(error), true);
    return this.#ending;
  }

  /** Nothing came of this attempt: leaves what the one before had. @returns Whether that is something. */
  close(): Promise<boolean> {
    this.#ending ??= this.#finish(true, false);
    return this.#ending;
  }

  /** The files have their names: there is nothing to go on from. */
  async remove(): Promise<void> {
    this.#complete = true;
    this.#ending ??= this.#finish(false, false);
    await this.#ending;
  }

  async #finish(keep: boolean, checkpoint: boolean): Promise<boolean> {
    if (keep && checkpoint) await this.#commit([]).catch(() => {});
    await this.#turn;
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
    if (keep && file && this.#durable > 0) return true;
    await file?.remove().catch(() => {});
    return false;
  }

  /** Nothing is held any more, and that is durable: the files may be written anew. */
  async restart(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file) {
      await file.close();
      await file.remove();
      await syncFolder(dirname(this.path));
    }
    this.#integrity = undefined;
    this.#found = undefined;
    this.#held = new ChunkSet(this.topic.chunks);
    this.#durable = 0;
    this.#known = new Map();
    this.#tail = NOTHING;
    this.#sameVersion = false;
    this.#mixed = false;
    this.#recovered = false;
  }

  /** Once the files have their names, nothing is left to be made durable. */
  async #over(): Promise<void> {
    if (this.#complete) return;
    throw new TensorwireError("ABORTED", `${quote(this.path)} is not being written any more`);
  }
}
