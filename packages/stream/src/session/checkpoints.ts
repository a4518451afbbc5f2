import type { Chunk, ChunkDigest } from "@tensorwire/core";
import type { Resumable } from "../sink/sink.js";

export interface CheckpointSettings {
  /** Source bytes after which the next one is made. */
  readonly everyBytes: number;
  /** One is made: `bytes` more are durable, of which `ours` came on the connection that there is now. */
  readonly made: (bytes: number, ours: number) => void;
  /** One could not be made. */
  readonly failed: (error: unknown) => void;
}

/** When a sink that can be interrupted makes its checkpoints: beside the writing, one at a time. */
export class Checkpoints {
  /** Source bytes that are written and in no checkpoint, those of the connection that there is now apart. */
  #bytes = 0;
  #ours = 0;
  /** Those of the one that is under way. */
  #under = 0;
  #connection = 0;
  #stopped = false;
  /** What the sink's journal is busy with. */
  #work: Promise<void> = Promise.resolve();
  #running = false;

  constructor(
    private readonly resumable: Resumable,
    private readonly settings: CheckpointSettings,
  ) {}

  /** Source bytes that an interruption of this process would take back. */
  get unsafe(): number {
    return this.#bytes + this.#under;
  }

  /** The sink has written the chunk. @param ours It came on the connection that there is now. */
  note(chunk: Chunk, digest: ChunkDigest, ours: boolean): void {
    this.resumable.note(chunk, digest);
    this.#bytes += chunk.bytes;
    if (ours) this.#ours += chunk.bytes;
    this.#makeDue();
  }

  /** Another connection begins: what came before is not of it. */
  reconnect(): void {
    this.#connection++;
    this.#ours = 0;
  }

  /** The chunk is held no more, whatever happens, once this resolves. */
  forget(chunk: Chunk): Promise<void> {
    return this.#inTurn(() => this.resumable.forget(chunk));
  }

  /** Makes no more of them. Resolves when the sink's journal is at rest. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  #makeDue(): void {
    if (this.#running || this.#stopped || this.#bytes < this.settings.everyBytes) return;
    this.#running = true;
    this.#inTurn(() => this.#make()).catch(this.settings.failed);
  }

  async #make(): Promise<void> {
    const [bytes, ours, connection] = [this.#bytes, this.#ours, this.#connection];
    this.#under = bytes;
    this.#bytes = 0;
    this.#ours = 0;
    try {
      await this.resumable.checkpoint();
    } finally {
      this.#under = 0;
      this.#running = false;
    }
    this.settings.made(bytes, connection === this.#connection ? ours : 0);
    this.#makeDue();
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    const done = this.#work.then(step);
    this.#work = done.catch(() => {});
    return done;
  }
}
