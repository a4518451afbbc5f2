import { TensorwireError } from "@tensorwire/core";

/** What a server bears at once. Each default's reason stands in `docs/limits.md`. A peer is its principal, else its address. */
export interface ServerLimits {
  /** Connections that were let in. */
  readonly maxConnections: number;
  /** Transfers of all peers. */
  readonly maxTransfers: number;
  /** Transfers of one peer. */
  readonly maxPeerTransfers: number;
  /** Source bytes of the models that one peer is sending here. */
  readonly maxPeerBytes: number;
  /** Bytes of the artifacts that the server has published, and is collecting. */
  readonly maxSpoolBytes: number;
}

/** What a server bears at once unless its owner says otherwise. */
export const DEFAULT_SERVER_LIMITS: ServerLimits = Object.freeze({
  maxConnections: 1024,
  maxTransfers: 256,
  maxPeerTransfers: 16,
  maxPeerBytes: 1024 * 1024 * 1024 * 1024,
  maxSpoolBytes: 1024 * 1024 * 1024 * 1024,
});

/** The defaults, with the given ones in their place. @throws TensorwireError `INVALID_ARGUMENT` for one that is no count. */
export function resolveServerLimits(given: Partial<ServerLimits> = {}): ServerLimits {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(DEFAULT_SERVER_LIMITS, name)) {
      throw new TensorwireError("INVALID_ARGUMENT", `a server has no limit called ${name}`);
    }
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 1)) {
      throw new TensorwireError("INVALID_ARGUMENT", `limit ${name} must be a positive integer, not ${value}`);
    }
  }
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...DEFAULT_SERVER_LIMITS, ...Object.fromEntries(set) };
}
