import { createHash, randomBytes } from "node:crypto";
import { type CodecSpec, isSeed, quote, TensorwireError } from "@tensorwire/core";

/** @throws TensorwireError `INVALID_ARGUMENT` for a seed that is none. */
export function checkSeed(seed: string | undefined): void {
  if (seed === undefined || isSeed(seed)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `a seed is 16 hexadecimal digits in lower case, not ${quote(String(seed))}`,
  );
}

/**
 * The specs with a seed where their rounding draws at random and they have none: all of a transfer the same one. It then
 * stands in the manifest, so that any chunk can be made again. One that nobody gave is made of the version token: what was
 * sent of the same source before is then what is sent now. Without a token it is drawn.
 */
export function seeded(
  specs: readonly CodecSpec[],
  given: string | undefined,
  version: string | undefined,
): readonly CodecSpec[] {
  let seed = given ?? (version === undefined ? undefined : seedOf(version));
  // A policy gives many tensors the same object, and the manifest is written by the object.
  const made = new Map<CodecSpec, CodecSpec>();
  return specs.map((spec) => {
    if (spec.rounding !== "stochastic" || spec.seed !== undefined) return spec;
    let other = made.get(spec);
    if (other === undefined) {
      seed ??= randomBytes(8).toString("hex");
      made.set(spec, (other = { ...spec, seed }));
    }
    return other;
  });
}

function seedOf(version: string): string {
  return createHash("sha256").update(`tensorwire seed\n${version}`).digest("hex").slice(0, 16);
}
