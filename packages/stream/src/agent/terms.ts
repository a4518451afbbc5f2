import { DEFAULT_WINDOW_BYTES } from "@tensorwire/core";
import type { StreamOptions } from "../options.js";
import type { AgentOptions } from "./agent-options.js";
import { defined, type Encoding, encodingOf } from "./requests.js";
import type { TransferRecord } from "./transfer-record.js";

/**
 * What decides the bytes that a model becomes. It is decided when a transfer begins, and recorded: one that goes on after a restart
 * makes the same bytes, whatever the agent's defaults are by then.
 */
export type Terms = Encoding & Pick<StreamOptions, "chunkBytes" | "windowBytes">;

/** What the agent encodes with, where the program says nothing. */
export function termsFor(asked: Encoding, { encoding = {}, transfer = {} }: AgentOptions): Terms {
  const { codec, policy, ...rest } = encoding;
  const says = asked.codec !== undefined || asked.policy !== undefined;
  const { windowBytes = DEFAULT_WINDOW_BYTES } = transfer;
  return { ...rest, ...(!says && { codec, policy }), ...defined(encodingOf(asked)), windowBytes };
}

/** Those that a transfer was begun with. */
export function termsOf({ terms = {} }: TransferRecord): Terms {
  return terms as Terms;
}
