import { BUILT_IN_CODECS, type Codec, type CodecSpec } from "@tensorwire/core";

/** A codec and its parameters as the addon takes them. */
export interface NativeSpec {
  readonly codec: Codec;
  /** 0 where the codec has no blocks. */
  readonly block: number;
  /** Undefined where none differs from what it is by default. */
  readonly options: Uint8Array | undefined;
  readonly stochastic: boolean;
}

/** Codecs that the addon has, by the very object: a caller's own codec under one of these names is not theirs. */
const NATIVE_CODECS = new Set<Codec>(BUILT_IN_CODECS);

const NESTED = 1;
const AFFINE = 2;
const STOCHASTIC = 4;

/**
 * What the addon needs to know of a spec, or undefined where the reference has to run: a codec that the addon does not
 * have, or a spec that lacks what is only drawn for a transfer.
 */
export function nativeSpec(codec: Codec, spec: CodecSpec): NativeSpec | undefined {
  if (!NATIVE_CODECS.has(codec)) return undefined;
  const { block = 0, nested, mode, rounding, seed, scale = 0, weight = 0 } = codec.resolve(spec);
  const stochastic = rounding === "stochastic";
  if (stochastic && seed === undefined) return undefined;
  const flags = (nested ? NESTED : 0) | (mode === "affine" ? AFFINE : 0) | (stochastic ? STOCHASTIC : 0);
  if (flags === 0 && scale === 0 && weight === 0) return { codec, block, options: undefined, stochastic };
  // As arguments.cc reads them.
  const options = new DataView(new ArrayBuffer(24));
  options.setUint32(0, flags, true);
  options.setFloat32(4, scale, true);
  options.setBigUint64(8, BigInt(`0x${seed ?? "0"}`), true);
  options.setFloat64(16, weight, true);
  return { codec, block, options: new Uint8Array(options.buffer), stochastic };
}
