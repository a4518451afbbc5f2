import { type CodecRegistry, type CodecSpec, defaultCodecs, quote, TensorwireError } from "@tensorwire/core";

/** A codec as `--codec` takes it. */
export function specText({ name, ...parameters }: CodecSpec): string {
  const pairs = Object.entries(parameters).map(([key, value]) => `${key}=${value}`);
  return pairs.length ? `${name}:${pairs.join(",")}` : name;
}

/** The same without what its codec has by default. */
export function shortSpecText(spec: CodecSpec, registry: CodecRegistry = defaultCodecs): string {
  const known = registry.names().includes(spec.name);
  const defaults = new Map<string, unknown>(known ? Object.entries(registry.resolve(spec.name)) : []);
  const own = Object.entries(spec).filter(([key, value]) => key === "name" || defaults.get(key) !== value);
  return specText(Object.fromEntries(own) as unknown as CodecSpec);
}

/**
 * `normfloat4`, or `normfloat4:block=128,other=true`.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CODEC_UNSUPPORTED`.
 */
export function parseSpecText(text: string): CodecSpec {
  const colon = text.indexOf(":");
  if (colon < 0) return defaultCodecs.resolve(text);
  const parameters = text.slice(colon + 1).split(",");
  const spec = Object.fromEntries(parameters.map((parameter) => parseParameter(parameter, text)));
  return defaultCodecs.resolve({ ...spec, name: text.slice(0, colon) });
}

function parseParameter(parameter: string, text: string): [string, number | boolean | string] {
  const match = /^(\w+)=(\S+)$/.exec(parameter);
  if (!match || match[1] === "name") {
    throw new TensorwireError("INVALID_ARGUMENT", `codec ${quote(text)}: parameters look like block=128`);
  }
  const [, name = "", value = ""] = match;
  // Its digits can look like a number, and it is none.
  if (name === "seed") return [name, value];
  if (value === "true" || value === "false") return [name, value === "true"];
  const number = Number(value);
  return [name, Number.isNaN(number) ? value : number];
}
