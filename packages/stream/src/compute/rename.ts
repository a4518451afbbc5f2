import { quote, TensorwireError } from "@tensorwire/core";
import type { EncodedSource, ModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import type { ComputeOptions } from "./input.js";
import { type View, viewOf } from "./view.js";

/** Other names for tensors: by the names that they have, or by a function of each. */
export type NewNames =
  | Readonly<Record<string, string>>
  | ReadonlyMap<string, string>
  | ((name: string) => string);

/**
 * A model with other names for its tensors; those that a map does not name keep theirs. Of an artifact the chunks stay
 * encoded as they are.
 * @throws TensorwireError `INVALID_ARGUMENT`, when the source is opened, for a name of the map that no tensor has, and where
 * two tensors would have the same name.
 * @example rename("model.safetensors", (name) => name.replace(/^module\./, ""))
 */
export function rename<S extends SourceLike>(source: S, names: NewNames, options?: ComputeOptions): View<S>;
export function rename(
  source: SourceLike,
  names: NewNames,
  options: ComputeOptions = {},
): ModelSource | EncodedSource {
  const renaming = typeof names === "function" ? names : undefined;
  const map = renaming ? undefined : mapOf(names as Exclude<NewNames, (name: string) => string>);
  return viewOf(
    source,
    "rename",
    (tensors, owner) => {
      const known = new Set(tensors.map(({ name }) => name));
      for (const name of map?.keys() ?? []) {
        if (!known.has(name)) throw invalid(`there is no such tensor in ${quote(owner)} to rename`, name);
      }
      const taken = new Map<string, string>();
      return tensors.map(({ name: old }, place) => {
        const name = renaming ? renaming(old) : (map!.get(old) ?? old);
        if (typeof name !== "string") throw invalid(`its new name is no string, but ${typeof name}`, old);
        const other = taken.get(name);
        if (other !== undefined) {
          throw invalid(`its new name would be ${quote(name)}, which is that of ${quote(other)}`, old);
        }
        taken.set(name, old);
        return { name, place };
      });
    },
    options,
  );
}

function mapOf(names: Readonly<Record<string, string>> | ReadonlyMap<string, string>): Map<string, string> {
  if (typeof names === "object" && names !== null) {
    return new Map(names instanceof Map ? names : Object.entries(names));
  }
  throw invalid(`new names are a map, an object or a function, not ${String(names)}`);
}

function invalid(message: string, tensor?: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message, { tensor });
}
