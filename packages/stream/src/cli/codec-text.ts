import { type CodecSpec, defaultCodecs, quote, TensorwireError } from "@tensorwire/core";

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
  return codecs.map(parseCodec);
}

/** `normfloat4`, or `normfloat4:block=128,other=true`. */
export function parseCodec(text: string): CodecSpec {
  const colon = text.indexOf(":");
  if (colon < 0) return defaultCodecs.resolve(text);
  const parameters = text.slice(colon + 1).split(",");
  const spec = Object.fromEntries(parameters.map((parameter) => parseParameter(parameter, text)));
  return defaultCodecs.resolve({ ...spec, name: text.slice(0, colon) });
}

function parseParameter(parameter: string, text: string): [string, number | boolean | string] {
  const match = /^(\w+)=(\S+)$/.exec(parameter);
  if (!match || match[1] === "name") {
    throw new TensorwireError("INVALID_ARGUMENT", `--codec ${quote(text)}: parameters look like block=128`);
  }
  const [, name = "", value = ""] = match;
  // Its digits can look like a number, and it is none.
  if (name === "seed") return [name, value];
  if (value === "true" || value === "false") return [name, value === "true"];
  const number = Number(value);
  return [name, Number.isNaN(number) ? value : number];
}
