import { quote, TensorwireError } from "@tensorwire/core";
import { MemoryBudget } from "../budget/memory-budget.js";
import { processBudget } from "../budget/process-budget.js";
import { Collection } from "./collection.js";
import { checkCollect, type CollectOptions, type CollectTerms } from "./collect-options.js";
import { expectedTensors } from "./expected-model.js";
import type { ResolvedOptions } from "../options.js";
import { checkModelName } from "./model-path.js";
import { RoundFolder } from "./round-folder.js";
import type { SpoolTerms } from "./spooled-version.js";

/** A chunk is half a window at most, and takes a window of memory: there is always room for one, and for the next to begin. */
const WINDOWS = 1.5;
/** Where windows are tiny, frames take more than they. */
const LEAST_BYTES = 4 * 2 ** 20;

/** Rounds that are over are remembered, so that whoever comes too late hears of it: so many of them. */
const MAX_ROUNDS = 1024;

/** The rounds that a server collects, or has collected. */
export class Collections {
  readonly #rounds = new Map<string, Collection>();
  readonly #opening = new Map<string, Promise<Collection>>();
  #closed = false;

  constructor(
    private readonly terms: SpoolTerms,
    private readonly parts: { readonly uploads: string | undefined; readonly named: boolean },
  ) {}

  /** @throws TensorwireError `INVALID_ARGUMENT`, and as `RoundFolder.open`. */
  async collect(round: string, options: CollectOptions): Promise<Collection> {
    checkModelName(round);
    const terms = checkCollect(options);
    const { folder = this.parts.uploads } = options;
    if (folder === undefined) {
      const message = "say where the models of a round go (folder), or give the server a folder for uploads";
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    if (this.#opening.has(round) || this.#rounds.get(round)?.status().state === "open" || this.#closed) {
      const why = this.#closed ? "the server is closed" : "it is being collected already";
      throw new TensorwireError("INVALID_ARGUMENT", `round ${quote(round)} cannot be collected: ${why}`);
    }
    const opening = this.#open(round, options, terms, folder);
    this.#opening.set(round, opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(round);
    }
  }

  async #open(
    round: string,
    options: CollectOptions,
    terms: CollectTerms,
    folder: string,
  ): Promise<Collection> {
    const { settings, room } = this.terms;
    const { model } = options;
    const expected = model === undefined ? undefined : await expectedTensors(model, settings);
    const opened = await RoundFolder.open(folder, round, { settings, room, options, expected });
    const memory = memoryOf(options.memoryBytes, settings);
    const { named } = this.parts;
    const collection = new Collection(round, options, terms, { folder: opened, memory, named });
    this.#remember(round, collection);
    return collection;
  }

  #remember(round: string, collection: Collection): void {
    this.#rounds.delete(round);
    const over = [...this.#rounds.values()].filter((each) => each.status().state !== "open");
    if (over.length >= MAX_ROUNDS) this.#rounds.delete(over[0]!.round);
    this.#rounds.set(round, collection);
  }

  /** The round that a model of that name is of. */
  of(name: string): Collection | undefined {
    return this.#rounds.get(name.slice(0, Math.max(0, name.lastIndexOf("/"))));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#opening.values());
    await Promise.all([...this.#rounds.values()].map((each) => each.close("the server was closed")));
  }
}

/** What the uploads of a round share: as much as one of them would take, were it alone, and no more than the server has. */
function memoryOf(bytes: number | undefined, { budget, windowBytes }: ResolvedOptions): MemoryBudget {
  const whole = budget ?? processBudget("receive");
  return new MemoryBudget(
    Math.min(bytes ?? Math.max(WINDOWS * windowBytes, LEAST_BYTES), whole.bytes),
    whole,
  );
}
