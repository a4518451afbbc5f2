import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { quote, TensorwireError } from "@tensorwire/core";
import type { TellAgent } from "./agent-event.js";
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
  /** What is decided for it now, and stays so. */
  readonly terms?: object | undefined;
  readonly lifetimeMs: number;
}

export type Deeds = Readonly<Record<TransferKind, Deed>>;

/** All transfers of an agent, those of earlier processes too, until they are freed or expire. */
export class TransferList {
  readonly #transfers = new Map<string, AgentTransfer>();
  /** Of transfers that are being forgotten, by id: when nothing of them is left. */
  readonly #leaving = new Map<string, Promise<void>>();
  /** Frees what is the agent's of one that is forgotten. */
  forgotten: (record: TransferRecord) => Promise<void> = async () => {};

  private constructor(
    private readonly records: RecordFolder<typeof TransferSchema>,
    private readonly tell: TellAgent,
  ) {}

  /** @throws TensorwireError `TARGET_WRITE`, `TARGET_EXISTS`. */
  static async open(directory: string, tell: TellAgent): Promise<TransferList> {
    const records = await RecordFolder.open(directory, TransferSchema);
    const list = new TransferList(records, tell);
    for (const [id, record] of await records.all()) list.#transfers.set(id, list.#transfer(record));
    return list;
  }

  #transfer(record: TransferRecord): AgentTransfer {
    return new AgentTransfer(record, (changed) => this.records.write(changed.id, changed), this.tell);
  }

  /** What was under way when an earlier process died goes on. */
  resume(deeds: Deeds): void {
    for (const transfer of this.#transfers.values()) {
      const { kind, state } = transfer.record;
      if (state === "running") transfer.resume(deeds[kind].move, deeds[kind].undo);
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
  same({ id, kind, name, request }: Omit<NewTransfer, "terms" | "lifetimeMs">): AgentTransfer | undefined {
    const known = id === undefined ? undefined : this.#transfers.get(id);
    if (!known) return undefined;
    const { record } = known;
    if (record.kind === kind && record.name === name && isDeepStrictEqual(record.request, asJson(request)))
      return known;
    throw new TensorwireError(
      "TARGET_EXISTS",
      `${quote(id!)} is the id of a transfer that was asked for with another request: take a new one`,
    );
  }

  /** @throws TensorwireError `SERVER_BUSY`, `TARGET_EXISTS`, `TARGET_FULL`, `TARGET_WRITE`. */
  async begin(asked: NewTransfer, { move, undo }: Deed): Promise<AgentTransfer> {
    // Its files and its record would be taken for those of the one before.
    while (asked.id !== undefined && this.#leaving.has(asked.id)) await this.#leaving.get(asked.id);
    const known = this.same(asked);
    if (known) return known;
    this.checkRoom();
    const { id = randomUUID(), kind, name, request, terms = {}, lifetimeMs } = asked;
    const created = Date.now();
    // A full second, as references have it: nothing goes before its reference says so.
    const expires = Math.ceil((created + lifetimeMs) / 1000) * 1000;
    const transfer = this.#transfer({
      ...{ id, kind, name, state: "running", created, expires },
      ...{ request: asJson(request), terms: asJson(terms), totalBytes: 0, sourceBytes: 0, wireBytes: 0 },
    });
    this.#transfers.set(id, transfer);
    try {
      // Durable before anybody is told: a program that has heard of it can ask for it after any restart.
      await transfer.begin(move, undo);
    } catch (error) {
      this.#transfers.delete(id);
      throw error;
    }
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
    const { id } = record;
    if (this.#transfers.get(id) === transfer) {
      this.#transfers.delete(id);
      const left = this.forgotten(record).finally(() => this.records.remove(id));
      const leaving = left.catch(() => {}).finally(() => this.#leaving.delete(id));
      this.#leaving.set(id, leaving);
      await left;
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

/** As a record has it: without what is undefined. */
const asJson = (given: object): Record<string, unknown> => JSON.parse(JSON.stringify(given));

const busy = (why: string): TensorwireError =>
  new TensorwireError("SERVER_BUSY", `${why}, as many as this agent takes: try again later`);
