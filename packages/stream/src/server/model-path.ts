import { modelNameFault, quote, TensorwireError } from "@tensorwire/core";

/** Where the names of models begin in a URL. */
export const DEFAULT_PREFIX = "/models/";

/** `/models/`, of what a caller gave. @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkPrefix(prefix = DEFAULT_PREFIX): string {
  if (/^\/(?:[\w.~-]+\/)*$/.test(`${prefix.replace(/\/$/, "")}/`)) return `${prefix.replace(/\/$/, "")}/`;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `prefix is a path such as ${DEFAULT_PREFIX}, of letters, digits and -._~, not ${quote(prefix)}`,
  );
}

/**
 * The name of the model in a request's path, decoded once and checked; what it asked for as it stood is a stranger's.
 * @throws TensorwireError `NOT_FOUND`: no model can have such a name.
 */
export function nameInPath(path: string, prefix: string): string {
  const encoded = path.startsWith(prefix) ? path.slice(prefix.length) : "";
  let name: string;
  try {
    // Segment by segment: an encoded slash is no separator, and no part of a name.
    name = encoded.split("/").map(decodeSegment).join("/");
  } catch (cause) {
    throw new TensorwireError("NOT_FOUND", `${quote(path)} is no path of a model`, { cause });
  }
  const fault = modelNameFault(name);
  if (fault === undefined) return name;
  throw new TensorwireError("NOT_FOUND", `${quote(name)} cannot be the name of a model: it ${fault}`);
}

function decodeSegment(segment: string): string {
  const decoded = decodeURIComponent(segment);
  if (decoded.includes("/")) throw new Error("an encoded slash");
  return decoded;
}

/** The path of a model's URL. */
export function pathOfName(name: string, prefix: string): string {
  return prefix + name.split("/").map(encodeURIComponent).join("/");
}

/** @throws TensorwireError `INVALID_ARGUMENT` for a name that no peer could ask for. */
export function checkModelName(name: string): string {
  const fault = modelNameFault(name);
  if (fault === undefined) return name;
  throw new TensorwireError("INVALID_ARGUMENT", `${quote(name)} cannot be the name of a model: it ${fault}`);
}
