import {
  type Chunk,
  type ChunkRecord,
  HEADER_BYTES,
  type Loan,
  parseTotals,
  RECORD_BYTES,
  type Totals,
} from "@tensorwire/core";
import type { ArrivedChunk } from "./chunk-decoder.js";
import type { CreditLedger } from "./credit.js";
import { deferred } from "./deferred.js";
import { type Expectations, ExpectedChunks } from "./expected-chunks.js";
import type { IncomingModel } from "./incoming-model.js";
import { Lane } from "./lane.js";
import type { ReceiverSettings } from "./receiver-settings.js";

/** The chunks that come on one connection, each the next one of what was asked for, until END says that there are no more. */
export class ArrivingChunks {
  /** Payloads that are here whole: credit bounds them. */
  readonly lane = new Lane<ArrivedChunk>(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  readonly #end = deferred<Totals>();
  #model: IncomingModel | undefined;
  #expected: ExpectedChunks | undefined;
  #next: Chunk | undefined;
  #ended = false;
  #chunks = 0;
  #sourceBytes = 0;

  constructor(
    private readonly ledger: CreditLedger,
    private readonly settings: Pick<ReceiverSettings, "progress" | "registry">,
    /** The peer needs credit for them. */
    private readonly credited: boolean,
  ) {}

  /** What its sender says in the end. */
  get totals(): Promise<Totals> {
    return this.#end.promise;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Chunks that came, and their source bytes: also of the one whose payload is on its way. */
  get came(): Pick<Totals, "chunks" | "sourceBytes"> {
    return { chunks: this.#chunks, sourceBytes: this.#sourceBytes };
  }

  /** Source bytes of the chunk whose payload is on its way; 0 where there is none. */
  get nextBytes(): number {
    return this.#next?.bytes ?? 0;
  }

  expect(model: IncomingModel, expectations?: Expectations): void {
    this.#model = model;
    this.#expected = new ExpectedChunks(model.manifest, model.plan, this.settings.registry, expectations);
  }

  /** @throws TensorwireError where it is not the next chunk's, or says what cannot be of it. */
  lend(record: ChunkRecord): Loan {
    const chunk = this.#expected!.take(record);
    this.#chunks++;
    this.#sourceBytes += chunk.bytes;
    this.ledger.arrive(chunk.bytes, this.credited);
    this.#next = chunk;
    this.settings.progress.wireBytes += RECORD_BYTES + record.packedBytes;
    return this.#model!.pool.lend(record.packedBytes);
  }

  /** @param wanted Whether anybody waits for it. */
  put(record: ChunkRecord, loan: Loan, wanted: boolean): void {
    const chunk = this.#next;
    this.#next = undefined;
    if (!chunk || !wanted) return loan.release();
    this.lane.put(chunk.bytes, { chunk, record, loan });
  }

  /** Takes the body of END. @throws TensorwireError `PROTOCOL` where chunks are missing. */
  end(body: Uint8Array): void {
    const totals = parseTotals("END", body, this.#model!.manifest.integrity);
    this.settings.progress.wireBytes += HEADER_BYTES + body.length;
    this.#ended = true;
    this.#expected!.end();
    this.#end.resolve(totals);
    this.lane.close();
  }
}
