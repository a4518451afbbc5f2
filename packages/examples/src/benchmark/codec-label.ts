import type { CodecSpec } from "@tensorwire/stream";

/** A codec in a table or a plot, without what it has by default. */
export function codecLabel({ name, nested, mode }: CodecSpec): string {
  return [name, nested === true && "nested", mode === "affine" && "affine"].filter(Boolean).join(", ");
}
