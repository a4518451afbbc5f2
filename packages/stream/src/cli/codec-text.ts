import type { CodecSpec } from "@tensorwire/core";
import { parseSpecText } from "../spec-text.js";

/**
 * `blockwise8,normfloat4:block=128,nested=true`: what has an = and no colon before it is one more parameter of the codec
 * before.
 */
export function codecList(text: string): CodecSpec[] {
  const codecs: string[] = [];
  for (const part of text.split(",")) {
    const codec = codecs.at(-1);
    if (codec !== undefined && part.includes("=") && !part.includes(":")) {
      codecs[codecs.length - 1] = `${codec}${codec.includes(":") ? "," : ":"}${part}`;
    } else codecs.push(part);
  }
  return codecs.map(parseSpecText);
}
