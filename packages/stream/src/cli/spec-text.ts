import type { CodecSpec } from "@tensorwire/core";

/** A codec as `--codec` takes it. */
export function specText({ name, ...parameters }: CodecSpec): string {
  const pairs = Object.entries(parameters).map(([key, value]) => `${key}=${value}`);
  return pairs.length ? `${name}:${pairs.join(",")}` : name;
}
