import { quote, TensorwireError } from "@tensorwire/core";
import { Option } from "commander";

/** An option that takes a number of things. */
export const countOption = (flag: string, description: string): Option =>
  new Option(`${flag} <n>`, description).argParser((text) => parseCount(text, flag));

function parseCount(text: string, flag: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(count)) return count;
  throw new TensorwireError("INVALID_ARGUMENT", `${flag} takes a whole number, not ${quote(text)}`);
}
