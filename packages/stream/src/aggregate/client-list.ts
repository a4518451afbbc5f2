import { quote, TensorwireError } from "@tensorwire/core";
import { isModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";

/**
 * Models of clients: by client id, or as a list, whose ids are the places in it. Whatever their order, clients are taken in
 * that of their ids, by UTF-16 code units; those of a list in its own.
 */
export type ClientSources =
  | readonly SourceLike[]
  | ReadonlyMap<string, SourceLike>
  | Readonly<Record<string, SourceLike>>;

/** A client, and what it is to be read from. */
export interface ClientSource {
  readonly id: string;
  readonly source: SourceLike;
}

/** The clients in the order in which they are summed. @throws TensorwireError `INVALID_ARGUMENT`. */
export function clientList(sources: ClientSources): ClientSource[] {
  if (typeof sources !== "object" || sources === null || isModelSource(sources)) {
    throw invalid("the models of an aggregate are a list, or a Map or object of client id to source");
  }
  const entries = entriesOf(sources);
  if (entries.length === 0) throw invalid("there is no model to aggregate: give at least one source");
  const open = new Map<unknown, string>();
  for (const [id, source] of entries) {
    if (typeof id !== "string") throw invalid(`a client's id is a string, not ${typeof id}`);
    if (!isModelSource(source)) continue;
    const other = open.get(source);
    open.set(source, id);
    if (other === undefined) continue;
    throw invalid(
      `clients ${quote(other)} and ${quote(id)} are one source, which is read by one: make another`,
    );
  }
  return entries.map(([id, source]) => ({ id, source }));
}

function entriesOf(sources: ClientSources): [string, SourceLike][] {
  if (Array.isArray(sources)) return sources.map((source, i) => [String(i), source]);
  const entries = sources instanceof Map ? [...sources] : Object.entries(sources);
  return entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
