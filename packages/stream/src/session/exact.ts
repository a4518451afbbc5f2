import type { Codec, CodecSpec } from "@tensorwire/core";

/** Carries any value, as `none` does, and its payloads are packed: what a chunk falls back to where the peer has it. */
export const LOSSLESS = "lossless";

/** Codecs that carry any value: what a record may name in the place of the manifest's. They have no parameters. */
const EXACT: Readonly<Record<string, CodecSpec>> = { none: { name: "none" }, [LOSSLESS]: { name: LOSSLESS } };

/** Whether the codec loses nothing. */
export function isExact({ name }: Pick<CodecSpec, "name">): boolean {
  return Object.hasOwn(EXACT, name);
}

/**
 * The parameters of a chunk that travels in `codec`, of a tensor whose codec is `spec`.
 * @returns undefined where such a chunk may not travel so.
 */
export function specOf(codec: Codec, spec: CodecSpec): CodecSpec | undefined {
  return codec.name === spec.name ? spec : isExact(codec) ? EXACT[codec.name] : undefined;
}
