import { NamePatterns, quote, TensorwireError } from "@tensorwire/core";
import type { EncodedSource, ModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import type { ComputeOptions } from "./input.js";
import { type View, viewOf } from "./view.js";

/** Options of `select`. */
export interface SelectOptions extends ComputeOptions {
  /** Patterns of tensors that are left out of those that `patterns` choose. */
  readonly except?: readonly string[] | undefined;
}

/**
 * The tensors of a model whose names match one of the patterns (`*` is any run of characters, dots among them, `?` is one):
 * adapters alone, or all but the layers that are frozen. They keep the model's order. Of an artifact the chunks stay encoded
 * as they are, and only those of the tensors that are chosen are read.
 * @throws TensorwireError `INVALID_ARGUMENT` here for what is no list of patterns, and, when the source is opened, for a
 * pattern that matches no tensor, and where nothing is left.
 * @example
 * await streamModel(select("model.safetensors", ["*.lora_A.*", "*.lora_B.*"]), "ws://host:9000");
 * select("model.twire", ["*"], { except: ["model.layers.0.*", "model.embed_tokens.*"] });
 */
export function select<S extends SourceLike>(
  source: S,
  patterns: readonly string[],
  options?: SelectOptions,
): View<S>;
export function select(
  source: SourceLike,
  patterns: readonly string[],
  { except, ...options }: SelectOptions = {},
): ModelSource | EncodedSource {
  const chosen = new NamePatterns(patterns);
  const left = except && new NamePatterns(except);
  return viewOf(
    source,
    "select",
    (tensors, owner) => {
      const names = tensors.map(({ name }) => name);
      const among = chosen.choose(names, owner);
      const out = left?.choose(names, owner);
      const viewed = names.flatMap((name, place) => (among[place] && !out?.[place] ? [{ name, place }] : []));
      if (viewed.length) return viewed;
      const message = `nothing is left of the tensors of ${quote(owner)}: every one that is chosen is excepted`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    },
    options,
  );
}
