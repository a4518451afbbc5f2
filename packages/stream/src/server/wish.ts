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
