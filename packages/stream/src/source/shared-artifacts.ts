import { BufferPool, type Loan, TensorwireError } from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import type { OpenedArtifact } from "./opened-artifact.js";
import type { EncodedRecord } from "./source.js";

/** A payload that was read, and verified. */
export interface ReadPayload {
  readonly record: EncodedRecord;
  readonly loan: Loan;
}

/**
 * Artifacts that are sent to many at once. What an artifact says of itself, and the large chunks that its readers have in hand,
 * are in memory once, for as long as any of them is there.
 */
export class SharedArtifacts {
  readonly #states = new Map<string, ArtifactState>();

  /** For a reader that has the artifact of that name open in that state, until it leaves. */
  join(name: string, version: string | undefined): ArtifactHold {
    let state = this.#states.get(name);
    // A file that was replaced is another artifact: whoever reads the old one has that to the end.
    if (state?.version !== version) state = undefined;
    if (!state) {
      const begun = new ArtifactState(version, () => {
        if (this.#states.get(name) === begun) this.#states.delete(name);
      });
      state = begun;
      this.#states.set(name, state);
    }
    return state.join();
  }
}

/** A chunk that somebody has, or waits for. */
interface SharedChunk {
  readonly reading: Promise<ReadPayload>;
  owners: number;
}

/** The artifact in one state. */
class ArtifactState {
  #opened: Promise<OpenedArtifact> | undefined;
  #pool: BufferPool | undefined;
  readonly #chunks = new Map<number, SharedChunk>();
  /** Slabs that each reader has reserved. */
  readonly #reserved = new Map<ArtifactHold, number>();

  /** @param over Called when nobody has it any more. */
  constructor(
    readonly version: string | undefined,
    private readonly over: () => void,
  ) {}

  join(): ArtifactHold {
    const hold = new ArtifactHold(this);
    this.#reserved.set(hold, 0);
    return hold;
  }

  async opened(look: () => Promise<OpenedArtifact>): Promise<OpenedArtifact> {
    this.#opened ??= look();
    const opening = this.#opened;
    try {
      return await opening;
    } catch (error) {
      // Whoever comes later looks again.
      if (this.#opened === opening) this.#opened = undefined;
      throw error;
    }
  }

  /** @param read Reads and verifies it, into a loan of that pool: it is called for the first of those who have it at once. */
  async take(
    { memory }: OpenedArtifact,
    ordinal: number,
    read: (pool: BufferPool) => Promise<ReadPayload>,
  ): Promise<ReadPayload> {
    const pool = this.#poolOf(memory.sharedSlabBytes);
    let chunk = this.#chunks.get(ordinal);
    if (!chunk) {
      chunk = { reading: read(pool), owners: 0 };
      this.#chunks.set(ordinal, chunk);
    }
    chunk.owners++;
    try {
      const { record, loan } = await chunk.reading;
      return { record, loan: new SharedChunkLoan(loan.bytes, () => this.#leave(ordinal, chunk, loan)) };
    } catch (error) {
      if (this.#chunks.get(ordinal) === chunk) this.#chunks.delete(ordinal);
      throw error;
    }
  }

  #poolOf(slabBytes: number): BufferPool {
    if (!this.#pool) {
      this.#pool = new BufferPool(slabBytes, undefined, discardSlab);
      this.#keep();
    }
    return this.#pool;
  }

  #leave(ordinal: number, chunk: SharedChunk, loan: Loan): void {
    if (--chunk.owners > 0) return;
    this.#chunks.delete(ordinal);
    loan.release();
  }

  reserve(hold: ArtifactHold, slabs: number): void {
    if (!this.#reserved.has(hold)) return;
    this.#reserved.set(hold, slabs);
    this.#keep();
  }

  leave(hold: ArtifactHold): void {
    if (!this.#reserved.delete(hold)) return;
    this.#keep();
    if (this.#reserved.size === 0) this.over();
  }

  #keep(): void {
    let slabs = 0;
    for (const reserved of this.#reserved.values()) slabs += reserved;
    this.#pool?.keep(slabs);
  }
}

/** What one reader has of it. */
export class ArtifactHold {
  constructor(private readonly state: ArtifactState) {}

  /** What the artifact says of itself. @param look Finds that out: for the first who asks. */
  opened(look: () => Promise<OpenedArtifact>): Promise<OpenedArtifact> {
    return this.state.opened(look);
  }

  /** A chunk's payload, which is lent to all who take it until the last has given it back. */
  take(
    artifact: OpenedArtifact,
    ordinal: number,
    read: (pool: BufferPool) => Promise<ReadPayload>,
  ): Promise<ReadPayload> {
    return this.state.take(artifact, ordinal, read);
  }

  /** From now on so many slabs are reserved for what it takes. */
  reserve(slabs: number): void {
    this.state.reserve(this, slabs);
  }

  leave(): void {
    this.state.leave(this);
  }
}

class SharedChunkLoan implements Loan {
  #out = true;

  constructor(
    readonly bytes: Uint8Array,
    private readonly leave: () => void,
  ) {}

  release(): void {
    if (!this.#out)
      throw new TensorwireError("INTERNAL", "a chunk that others have, too, was released twice");
    this.#out = false;
    this.leave();
  }
}
