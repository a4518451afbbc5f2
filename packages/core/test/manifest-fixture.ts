import {
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeManifest,
  type Limits,
  type PlannedManifest,
  parseManifest,
  TensorwireError,
} from "../src/index.js";
import { sample } from "./manifest-samples.js";

const CODES = ["MANIFEST_INVALID", "LIMIT_EXCEEDED", "CODEC_UNSUPPORTED"];

export const parse = (bytes: Uint8Array, limits: Partial<Limits> = {}): PlannedManifest =>
  parseManifest(bytes, { ...DEFAULT_LIMITS, ...limits }, defaultCodecs);

// biome-ignore lint/suspicious/noExplicitAny: these tests put anything anywhere.
export type Json = any;

/** The sample as JSON, for tests to spoil. */
export const written = (): Json => JSON.parse(new TextDecoder().decode(encodeManifest(sample())));

/** The sample without its header, which would find most faults first. */
export function bare(): Json {
  const { header, ...rest } = written();
  return rest;
}

export const bytesOf = (json: Json): Uint8Array => Buffer.from(JSON.stringify(json));

/** The error of parsing; anything that is no TensorwireError of the three codes fails the test. */
export function errorOf(act: () => unknown): TensorwireError | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof TensorwireError && CODES.includes(error.code)) return error;
    throw error;
  }
}
