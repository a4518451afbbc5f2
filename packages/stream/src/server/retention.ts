import { TensorwireError } from "@tensorwire/core";

/** Which versions of a published model stay beside the newest, which always does. One that is being read stays too. */
export interface Retention {
  /** So many, the newest among them. Default 2. */
  readonly versions?: number | undefined;
  /** Those that were published no longer ago. Default: no bound. */
  readonly maxAgeMs?: number | undefined;
  /** As many as take no more bytes, the newest among them. Default: no bound. */
  readonly maxBytes?: number | undefined;
}

export const DEFAULT_RETAINED_VERSIONS = 2;

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkRetention({ versions, maxAgeMs, maxBytes }: Retention): void {
  if (versions !== undefined && !(Number.isSafeInteger(versions) && versions >= 1)) {
    throw new TensorwireError("INVALID_ARGUMENT", `retention.versions is a count from 1 on, not ${versions}`);
  }
  for (const [name, value] of Object.entries({ maxAgeMs, maxBytes })) {
    if (value === undefined || value >= 0) continue;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `retention.${name} is a number of at least 0, not ${value}`,
    );
  }
}

/** What retention looks at. */
export interface Retained {
  readonly published: number;
  readonly bytes: number;
  readonly readers: number;
}

/**
 * Those that go.
 * @param versions the newest first.
 * @returns beside them, when the next one may have to go, in milliseconds since 1970.
 */
export function outlived<V extends Retained>(
  versions: readonly V[],
  {
    versions: count = DEFAULT_RETAINED_VERSIONS,
    maxAgeMs = Number.POSITIVE_INFINITY,
    maxBytes = Number.POSITIVE_INFINITY,
  }: Retention,
  now: number,
): { readonly gone: V[]; readonly next: number } {
  const gone: V[] = [];
  let bytes = 0;
  let next = Number.POSITIVE_INFINITY;
  for (const [i, version] of versions.entries()) {
    const old = i >= count || now - version.published > maxAgeMs || bytes + version.bytes > maxBytes;
    if (i > 0 && old && version.readers === 0) {
      gone.push(version);
      continue;
    }
    bytes += version.bytes;
    if (i > 0 && !old) next = Math.min(next, version.published + maxAgeMs);
  }
  return { gone, next };
}
