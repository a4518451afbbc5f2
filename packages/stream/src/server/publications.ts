import { quote, TensorwireError } from "@tensorwire/core";
import type { StreamOptions } from "../options.js";
import { isModelSource } from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { checkModelName } from "./model-path.js";

/** How a published model is encoded, for each receiver anew. */
export type PublishOptions = Pick<
  StreamOptions,
  | "codec"
  | "policy"
  | "minElements"
  | "compress"
  | "nonFinite"
  | "seed"
  | "chunkBytes"
  | "integrity"
  | "version"
>;

/** A model that receivers can have: opened for each of them. */
export interface Publication {
  readonly options: PublishOptions;
  open(): SourceLike | Promise<SourceLike>;
}

/** Finds a model that was not published by name, when it is asked for. */
export type FindModel = (name: string) => Publication | undefined | Promise<Publication | undefined>;

/** The models that a server has, by name. */
export class Publications {
  readonly #models = new Map<string, Publication>();

  constructor(private readonly find: FindModel | undefined) {}

  get names(): string[] {
    return [...this.#models.keys()].sort();
  }

  /** @throws TensorwireError `INVALID_ARGUMENT`. */
  publish(
    name: string,
    source: SourceLike | (() => SourceLike | Promise<SourceLike>),
    options: PublishOptions,
  ): void {
    checkModelName(name);
    if (isModelSource(source)) {
      const message = `${quote(name)}: a source is read once: publish a function that makes one for each receiver`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    this.#models.set(name, { options, open: typeof source === "function" ? source : () => source });
  }

  unpublish(name: string): boolean {
    return this.#models.delete(name);
  }

  /** @throws TensorwireError `NOT_FOUND`. */
  async get(name: string): Promise<Publication> {
    const found = this.#models.get(name) ?? (await this.find?.(name));
    if (found) return found;
    throw new TensorwireError("NOT_FOUND", `there is no model called ${quote(name)}`);
  }

  async has(name: string): Promise<boolean> {
    return this.#models.has(name) || (await this.find?.(name)) !== undefined;
  }
}
