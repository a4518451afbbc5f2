import { TensorwireError } from "@tensorwire/core";
import { checkWord } from "../options.js";
import type { ExpectedModel } from "./expected-model.js";
import type { ServedPeer } from "./reception.js";
import type { UpdateForm } from "./update-form.js";

/** What a round waits for, and what it takes. */
export interface CollectOptions {
  /** How many clients, or which: others are refused then. The round ends when all have arrived. */
  readonly expect: number | readonly string[];
  /** With how many the round is worth something when its deadline has come. Default: all of them. */
  readonly quorum?: number | undefined;
  /** When it ends, with whoever has arrived: a time, or milliseconds from now. Default: never. */
  readonly deadline?: Date | number | undefined;
  /** The folder of the artifacts: `<folder>/<round>/<client>.twire`. It must exist. Default: the server's `uploads`. */
  readonly folder?: string | undefined;
  /** The names, shapes and dtypes that an update must have. Default: any. */
  readonly model?: ExpectedModel | undefined;
  /** What updates have in common beside that, so that there is a mean of them. Default: as the first that arrives. */
  readonly form?: UpdateForm | undefined;
  /** What becomes of another upload of a client that has arrived: it is refused, or takes the first one's place. Default `"refuse"`. */
  readonly duplicate?: "refuse" | "replace" | undefined;
  /** An update with a value that is NaN or infinite is refused as it arrives, or taken. Default `"refuse"`. */
  readonly nonFinite?: "refuse" | "take" | undefined;
  /** Bytes of one client's artifact, at most. Default: no bound but the server's. */
  readonly maxClientBytes?: number | undefined;
  /**
   * Bytes of memory that its uploads take together, of the server's `budget`: those for which there is none wait for their turn,
   * so that the number of clients makes no difference. Default: one and a half windows
   * (`windowBytes`), 4 MiB at least.
   */
  readonly memoryBytes?: number | undefined;
  /**
   * Who a peer is, by what it is to the server and the last part of its URL. Default: its principal's name where the server asks
   * for credentials (`authorize`), else that part.
   */
  readonly clientOf?: ((peer: ServedPeer, segment: string) => string) | undefined;
}

/** `CollectOptions`, as far as they are counts and times. */
export interface CollectTerms {
  readonly expect: number;
  /** Undefined: whoever comes. */
  readonly clients: ReadonlySet<string> | undefined;
  readonly quorum: number;
  /** In milliseconds since 1970. */
  readonly deadline: number | undefined;
}

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkCollect(options: CollectOptions, now = Date.now()): CollectTerms {
  const { duplicate, nonFinite, maxClientBytes, memoryBytes, deadline, form = {} } = options;
  checkWord("duplicate", duplicate, ["refuse", "replace"]);
  checkWord("nonFinite", nonFinite, ["refuse", "take"]);
  checkWord("form.examples", form.examples, ["alike", "required", "any"]);
  if (form.chunkBytes !== undefined) checkCount("form.chunkBytes", form.chunkBytes);
  const clients = typeof options.expect === "number" ? undefined : new Set(options.expect);
  const expect = clients?.size ?? (options.expect as number);
  checkCount("expect", expect);
  const { quorum = expect } = options;
  checkCount("quorum", quorum);
  if (quorum > expect) throw invalid(`a quorum of ${quorum} cannot be had of ${expect} clients`);
  if (maxClientBytes !== undefined) checkCount("maxClientBytes", maxClientBytes);
  if (memoryBytes !== undefined) checkCount("memoryBytes", memoryBytes);
  const ends = deadline instanceof Date ? deadline.getTime() : deadline && now + deadline;
  if (ends !== undefined && !(ends > now)) {
    throw invalid("deadline is a time to come, or milliseconds from now");
  }
  return { expect, clients, quorum, deadline: ends };
}

function checkCount(option: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw invalid(`${option} is a count from 1 on, not ${value}`);
}

const invalid = (message: string): TensorwireError => new TensorwireError("INVALID_ARGUMENT", message);
