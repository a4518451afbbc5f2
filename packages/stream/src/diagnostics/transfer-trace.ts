import type { Chunk, ChunkRecord, Manifest, TensorwireError } from "@tensorwire/core";
import type { Connection } from "../session/connection.js";
import type { TransferSummary } from "../session/summary.js";
import {
  type ObservedTransfer,
  publish,
  type ServedModel,
  type TransferPosition,
  type WaitingBytes,
} from "./events.js";
import { type Logger, logTo } from "./logger.js";

const NOTHING: WaitingBytes = { inFlightBytes: 0, queuedBytes: 0 };

let transfers = 0;

/**
 * Tells whoever listens of one call: from its first line, in which the caller's context is the active one, to its end,
 * through all its attempts. Costs next to nothing where nobody does.
 */
export class TransferTrace implements ObservedTransfer {
  readonly id = ++transfers;
  readonly startedAt = performance.now();
  manifest: Manifest | undefined;
  position: TransferPosition | undefined;
  #connection: Connection | undefined;
  #waiting = NOTHING;
  readonly #stopLogging: () => void;

  /** @param logger Is told of this transfer, and of no other. */
  constructor(
    readonly role: "send" | "receive",
    logger: Logger | undefined,
  ) {
    this.#stopLogging = logTo(this, logger);
    publish("tensorwire:transfer:start", () => ({ transfer: this }));
  }

  get channel(): string | undefined {
    return this.#connection?.channel.kind;
  }

  get peer(): string | undefined {
    return this.#connection?.channel.peer?.address;
  }

  get served(): ServedModel | undefined {
    return this.#connection?.options.served;
  }

  get inFlightBytes(): number {
    return this.#waiting.inFlightBytes;
  }

  get queuedBytes(): number {
    return this.#waiting.queuedBytes;
  }

  /** An attempt begins. @param end Where the bytes that wait can be seen. */
  attempt(connection: Connection, end: WaitingBytes): void {
    this.#connection = connection;
    this.#waiting = end;
  }

  chunk({ tensor, ordinal, bytes }: Chunk, { packedBytes }: ChunkRecord): void {
    publish("tensorwire:transfer:chunk", () => ({
      transfer: this,
      tensor,
      ordinal,
      sourceBytes: bytes,
      wireBytes: packedBytes,
    }));
  }

  /** So many source bytes of the model are durable. */
  checkpoint(durableBytes: number): void {
    publish("tensorwire:transfer:checkpoint", () => ({ transfer: this, durableBytes }));
  }

  /** The attempt goes on from so much that was there already, if there was anything. */
  resume(sourceBytes: number): void {
    if (sourceBytes > 0) publish("tensorwire:transfer:resume", () => ({ transfer: this, sourceBytes }));
  }

  /** Attempt number `attempt` in a row without progress will be made in `delayMs`: `error` has interrupted the last one. */
  retry(attempt: number, delayMs: number, error: TensorwireError): void {
    publish("tensorwire:transfer:retry", () => ({ transfer: this, attempt, delayMs, error }));
  }

  /** An attempt is over. */
  attempted(): void {
    this.#waiting = NOTHING;
  }

  /** The call is over: with what came of it, or with what it failed. @param loans Pooled buffers that are not back. */
  end(outcome: TransferSummary | TensorwireError, loans: number): void {
    const error = outcome instanceof Error ? outcome : undefined;
    publish("tensorwire:transfer:end", () => ({
      transfer: this,
      role: this.role,
      error,
      summary: error ? undefined : (outcome as TransferSummary),
      seconds: (performance.now() - this.startedAt) / 1000,
      loans,
    }));
    this.#stopLogging();
  }
}
