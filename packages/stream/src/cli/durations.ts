import { quote, TensorwireError } from "@tensorwire/core";
import { Option } from "commander";

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60 * 1000,
  h: 60 * 60 * 1000,
  d: 24 * 60 * 60 * 1000,
};

/**
 * Milliseconds, as people write a time: `500ms`, `30s`, `15m`, `12h`, `7d`; 0 needs no unit.
 * @throws TensorwireError `INVALID_ARGUMENT` naming the option.
 */
export function parseDuration(text: string, option: string): number {
  if (text.trim() === "0") return 0;
  const match = /^(\d+(?:\.\d+)?)\s*(ms|[smhd])$/i.exec(text.trim());
  const ms = match ? Number(match[1]) * UNIT_MS[match[2]!.toLowerCase()]! : Number.NaN;
  if (Number.isFinite(ms)) return ms;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${option} takes a time such as 500ms, 30s, 15m, 12h or 7d, not ${quote(text)}`,
  );
}

/** An option that takes a time. */
export const durationOption = (flag: string, description: string): Option =>
  new Option(`${flag} <time>`, description).argParser((text) => parseDuration(text, flag));
