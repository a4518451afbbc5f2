import { resolve } from "node:path";
import type { Exchange } from "./exchange.js";
import type { ModelStore } from "./model-store.js";
import type { TransferList } from "./transfer-list.js";
import type { TransferRecord } from "./transfer-record.js";

const MAX_INTERVAL_MS = 60_000;
const MIN_INTERVAL_MS = 250;

export interface SweepParts {
  readonly exchange: Exchange;
  readonly store: ModelStore;
  readonly transfers: TransferList;
  readonly keepMs: number;
}

/** Frees what nobody has freed in time: at once, and again and again. @returns what ends that. */
export function sweeping(parts: SweepParts): () => Promise<void> {
  const { keepMs } = parts;
  let sweeping: Promise<void> = Promise.resolve();
  let under = false;
  const begin = (): void => {
    if (under) return;
    under = true;
    sweeping = sweep(parts)
      // What cannot be looked at now may be the next time.
      .catch(() => {})
      .finally(() => {
        under = false;
      });
  };
  begin();
  const interval = Math.max(MIN_INTERVAL_MS, Math.min(MAX_INTERVAL_MS, keepMs / 4));
  const timer = setInterval(begin, interval).unref();
  return () => {
    clearInterval(timer);
    return sweeping;
  };
}

async function sweep({ exchange, store, transfers, keepMs }: SweepParts): Promise<void> {
  const now = Date.now();
  const before = now - keepMs;
  await transfers.sweep(now);
  await store.sweep(now, before);
  const used = new Set(transfers.all.flatMap(({ record }) => filesOf(record, exchange)));
  await exchange.sweep(before, (path) => used.has(path.replace(/\.part(?:\..*)?$/, "")));
}

/** Files of the exchange directory that a transfer reads, writes, or has given to a program. */
function filesOf({ id, kind, state, path, request }: TransferRecord, exchange: Exchange): string[] {
  const given = path === undefined ? [] : [path];
  if (state !== "running") return given;
  const { path: from, to } = request as { readonly path?: string; readonly to?: string };
  const named = kind === "fetch" ? to : from;
  return [...given, exchange.fetched(id), ...(named === undefined ? [] : [resolve(exchange.path, named)])];
}
