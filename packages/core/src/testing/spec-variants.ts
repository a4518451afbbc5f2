import type { CodecSpec } from "../codec/codec.js";
import type { CodecRegistry } from "../codec/registry.js";

const SEED = "0123456789abcdef";

/** Parameters by which codecs take other ways through their code. */
const VARIANTS: readonly Omit<CodecSpec, "name">[] = [
  { block: 32 },
  { block: 64 },
  { block: 128 },
  { block: 1024 },
  { block: 4096 },
  { nested: true },
  { nested: true, block: 32 },
  { nested: true, block: 4096 },
  { mode: "affine" },
  { mode: "affine", block: 32, rounding: "stochastic", seed: SEED },
  { rounding: "stochastic", seed: SEED },
  { rounding: "stochastic", seed: "fedcba9876543210", block: 4096 },
  { scale: 0.001 },
  { scale: 2 ** -100, rounding: "stochastic", seed: SEED },
  // adaquant: a bit a code; codes of two bytes; of four, where the source is F64, and none elsewhere.
  { weight: 1e9 },
  { weight: 1e-6 },
  { weight: 1e-11 },
];

/** The default spec of a codec, and one for each of its ways; with stochastic rounding they have a seed. */
export function specVariants(codecs: CodecRegistry, name: string): CodecSpec[] {
  const all = [codecs.resolve(name)];
  for (const variant of VARIANTS) {
    let spec: CodecSpec;
    try {
      spec = codecs.resolve({ name, ...variant });
    } catch {
      // A parameter that this codec does not have, or not with this value.
      continue;
    }
    if (!all.some((known) => JSON.stringify(known) === JSON.stringify(spec))) all.push(spec);
  }
  return all;
}
