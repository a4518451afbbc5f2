import { RECOVERED } from "./head.js";
import { JOURNAL_SUFFIX, PART_SUFFIX } from "./leftover.js";
import { openOwn } from "./own-file.js";
import { replay } from "./replay.js";

/**
 * The version of which an earlier call left a part at this path, as far as its journal says one: what to ask a server for that
 * may have newer ones by now. Whether the journal is of any use shows later.
 */
export async function heldVersion(path: string): Promise<string | undefined> {
  try {
    const own = await openOwn(`${path}${PART_SUFFIX}${JOURNAL_SUFFIX}`);
    if (!own) return undefined;
    const replayed = await replay(own.handle, undefined).finally(() => own.handle.close());
    const version = replayed && !replayed.mixed ? replayed.head.version : undefined;
    return version === RECOVERED ? undefined : version;
  } catch {
    return undefined;
  }
}
