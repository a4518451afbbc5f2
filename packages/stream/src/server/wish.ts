import { type Hello, quote, TensorwireError } from "@tensorwire/core";

/** Which of a published model's versions and codecs a receiver wants. */
export interface Wish {
  /** As its URL says it: `?codec=normfloat4`. */
  readonly codec?: string | undefined;
  /** `?version=7`. */
  readonly version?: number | undefined;
  /** The version token of what it has of the model already, from a transfer that was interrupted. */
  readonly held?: string | undefined;
  /** Those that it can decode. */
  readonly codecs: readonly string[];
}

/**
 * @param query What stands in the URL behind the question mark.
 * @throws TensorwireError `NOT_FOUND` for a version that is no number.
 */
export function wishOf(query: string | undefined, { codecs, holds }: Pick<Hello, "codecs" | "holds">): Wish {
  const parameters = new URLSearchParams(query);
  const codec = parameters.get("codec") ?? undefined;
  const version = parameters.get("version") ?? undefined;
  if (version !== undefined && !/^[1-9]\d{0,14}$/.test(version)) {
    throw new TensorwireError(
      "NOT_FOUND",
      `${quote(version)} is no version: versions are numbers, from 1 on`,
    );
  }
  return { codec, version: version === undefined ? undefined : Number(version), held: holds, codecs };
}

/**
 * The codec that was asked for, by its text or, where that says it, by its name; else the first offered that the receiver knows.
 * @param name The model's, for errors.
 * @throws TensorwireError `NOT_FOUND`, `CODEC_UNSUPPORTED`.
 */
export function codecFor(name: string, offered: readonly string[], { codec, codecs }: Wish): string {
  const nameOf = (text: string): string => text.split(":")[0]!;
  const there = `there is ${offered.join(", ")}`;
  if (codec === undefined) {
    // What a policy, or an artifact, has in it shows at the manifest.
    const known = offered.find((text) => /^(?:policy|as-it-is)$/.test(text) || codecs.includes(nameOf(text)));
    if (known !== undefined) return known;
    const message = `${quote(name)} is published in codecs that the receiver does not have: ${there}`;
    throw new TensorwireError("CODEC_UNSUPPORTED", message);
  }
  const named = offered.filter((text) => nameOf(text) === codec);
  const found = offered.includes(codec) ? codec : named.length === 1 ? named[0] : undefined;
  if (found !== undefined) return found;
  throw new TensorwireError("NOT_FOUND", `${quote(name)} is not published as ${quote(codec)}: ${there}`);
}
