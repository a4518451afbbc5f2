import { type CodecRegistry, type CodecSpec, defaultCodecs } from "@tensorwire/core";

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
