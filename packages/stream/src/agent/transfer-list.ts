import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { quote, TensorwireError } from "@tensorwire/core";
import { AgentTransfer, type Move, type Undo } from "./agent-transfer.js";
import { RecordFolder } from "./record-folder.js";
import { type TransferKind, type TransferRecord, TransferSchema } from "./transfer-record.js";

/** Transfers that run at once. */
export const MAX_RUNNING = 64;

/** Transfers that are not forgotten, those that run among them. */
export const MAX_TRANSFERS = 4096;

/** What is done for a kind of transfer. */
export interface Deed {
  readonly move: Move;
  readonly undo: Undo;
}

/** What a program asks for, checked. */
export interface NewTransfer {
  readonly id: string | undefined;
  readonly kind: TransferKind;
  readonly name: string;
  readonly request: object;
  readonly lifetimeMs: number;
}

export type Deeds = Readonly<Record<TransferKind, Deed>>;

/** All transfers of an agent, those of earlier processes too, until they are freed or expire. */
export class TransferList {
  readonly #transfers = new Map<string, AgentTransfer>();
  /** Frees what is the agent's of one that is forgotten. */
  forgotten: (record: TransferRecord) => Promise<void> = async () => {};

  private constructor(private readonly records: RecordFolder<typeof TransferSchema>) {}

  /** @throws TensorwireError `TARGET_WRITE`, `TARGET_EXISTS`. */
  static async open(directory: string): Promise<TransferList> {
    const records = await RecordFolder.open(directory, TransferSchema);
    const list = new TransferList(records);
    for (const [id, record] of await records.all()) list.#transfers.set(id, list.#transfer(record));
    return list;
  }

  #transfer(record: TransferRecord): AgentTransfer {
    return new AgentTransfer(record, (changed) => this.records.write(changed.id, changed));
  }

  /** What was under way when an earlier process died goes on. */
  resume(deeds: Deeds): void {
    for (const transfer of this.#transfers.values()) {
      const { kind, state } = transfer.record;
      if (state === "running") transfer.start(deeds[kind].move, deeds[kind].undo, true);
    }
  }

  get all(): AgentTransfer[] {
    return [...this.#transfers.values()];
  }

  /** Undefined where there is no such transfer. */
  find(id: string): AgentTransfer | undefined {
    return this.#transfers.get(id);
  }

  /** @throws TensorwireError `NOT_FOUND`. */
  get(id: string): AgentTransfer {
    const transfer = this.#transfers.get(id);
    if (transfer) return transfer;
    throw new TensorwireError(
      "NOT_FOUND",
      `there is no transfer ${quote(id)} here: it was freed, or has expired`,
    );
  }

  /**
   * The transfer that was asked for already by the same request.
   * @throws TensorwireError `TARGET_EXISTS` where the id is another one's.
   */
  same({ id, kind, name, request }: Omit<NewTransfer, "lifetimeMs">): AgentTransfer | undefined {
    const known = id === undefined ? undefined : this.#transfers.get(id);
    if (!known) return undefined;
    const { record } = known;
    // As a record has it: without what is undefined.
    const asked = JSON.parse(JSON.stringify(request));
    if (record.kind === kind && record.name === name && isDeepStrictEqual(record.request, asked))
      return known;
    throw new TensorwireError(
      "TARGET_EXISTS",
      `${quote(id!)} is the id of a transfer that was asked for with another request: take a new one`,
    );
  }

  /** @throws TensorwireError `SERVER_BUSY`, `TARGET_EXISTS`, `TARGET_FULL`, `TARGET_WRITE`. */
  async begin(asked: NewTransfer, { move, undo }: Deed): Promise<AgentTransfer> {
    const known = this.same(asked);
    if (known) return known;
    this.checkRoom();
    const { id = randomUUID(), kind, name, request, lifetimeMs } = asked;
    const created = Date.now();
    // A full second, as references have it: nothing goes before its reference says so.
    const expires = Math.ceil((created + lifetimeMs) / 1000) * 1000;
    const transfer = this.#transfer({
      ...{ id, kind, name, state: "running", created, expires },
      ...{ request: JSON.parse(JSON.stringify(request)), totalBytes: 0, sourceBytes: 0, wireBytes: 0 },
    });
    this.#transfers.set(id, transfer);
    try {
      // Durable before anybody is told: a program that has heard of it can ask for it after any restart.
      await this.records.write(id, transfer.record);
    } catch (error) {
      this.#transfers.delete(id);
      throw error;
    }
    transfer.start(move, undo);
    return transfer;
  }

  /** @throws TensorwireError `SERVER_BUSY`. */
  checkRoom(): void {
    const running = this.all.filter(({ record }) => record.state === "running").length;
    if (running >= MAX_RUNNING) throw busy(`${running} transfers are under way`);
    if (this.#transfers.size < MAX_TRANSFERS) return;
    throw busy(`there are ${this.#transfers.size} transfers that nobody has freed (DELETE /v1/transfers/ID)`);
  }

  /** Cancels it, and forgets it. @returns what it was. */
  async remove(transfer: AgentTransfer): Promise<TransferRecord> {
    await transfer.cancel();
    const { record } = transfer;
    if (this.#transfers.get(record.id) === transfer) {
      this.#transfers.delete(record.id);
      await this.forgotten(record);
      await this.records.remove(record.id);
    }
    return record;
  }

  /** Forgets what is over and has expired. */
  async sweep(now: number): Promise<void> {
    for (const transfer of this.all) {
      const { state, expires } = transfer.record;
      if (state !== "running" && expires <= now) await this.remove(transfer);
    }
  }

  /** Ends what is under way, so that a later process goes on with it. */
  async close(): Promise<void> {
    await Promise.all(this.all.map((transfer) => transfer.leave()));
  }
}

const busy = (why: string): TensorwireError =>
  new TensorwireError("SERVER_BUSY", `${why}, as many as this agent takes: try again later`);
