import { readdir, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { type Manifest, modelNameFault, quote, TensorwireError } from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import { type ArtifactOptions, artifactSource, sharedArtifactSource } from "../source/artifact.js";
import { safetensorsSource } from "../source/safetensors.js";
import { SharedArtifacts } from "../source/shared-artifacts.js";
import { shardedSafetensorsSource } from "../source/sharded.js";
import type { EncodedSource, ModelSource } from "../source/source.js";
import type { Publication, PublishOptions } from "./publications.js";

const INDEX = ".safetensors.index.json";
const MODELS = [".safetensors", INDEX, ".twire"];

/**
 * The models in a folder, and in those below it, by their paths: `*.safetensors`, `*.safetensors.index.json`, `*.twire`. It is
 * looked at when somebody asks: files that are new are found. Links that stay in the folder are followed.
 */
export class ServedFolder {
  readonly #backend = defaultBackend();
  readonly #shared = new SharedArtifacts();

  private constructor(
    /** Without links. */
    readonly path: string,
    private readonly options: PublishOptions,
    private readonly spool: string | undefined,
  ) {}

  /**
   * @param spool The folder of their artifacts. Default: they are encoded for each receiver anew.
   * @throws TensorwireError `INVALID_ARGUMENT` for what is no folder.
   */
  static async open(path: string, options: PublishOptions = {}, spool?: string): Promise<ServedFolder> {
    try {
      const real = await realpath(path);
      if ((await stat(real)).isDirectory()) return new ServedFolder(real, options, spool);
    } catch (cause) {
      const { message } = cause as Error;
      throw new TensorwireError("INVALID_ARGUMENT", `${quote(path)} cannot be served: ${message}`, { cause });
    }
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(path)} cannot be served: it is no folder`);
  }

  /** The model of that name, if there is one: for a server's `find`. */
  async find(name: string): Promise<Publication | undefined> {
    if (modelNameFault(name) !== undefined || !MODELS.some((end) => name.endsWith(end))) return undefined;
    const path = await this.#pathOf(name);
    if (path === undefined) return undefined;
    const { options, spool } = this;
    if (spool !== undefined && !path.endsWith(".twire")) return this.#spooled(path, spool);
    // An artifact that is to be encoded anew is not what is sent.
    const asItIs = path.endsWith(".twire") && options.codec === undefined && options.policy === undefined;
    if (!asItIs) return { options, open: () => this.#source(path) };
    return {
      options,
      open: () => sharedArtifactSource(path, this.#terms, this.#shared),
      file: async () => ({ path, within: this.path }),
    };
  }

  /** What state it is in decides whether it is encoded again. */
  async #spooled(path: string, spool: string): Promise<Publication> {
    const version = await this.#versionOf(path);
    const open = (): ModelSource | EncodedSource => {
      const source = this.#source(path);
      const { open } = source as ModelSource;
      source.open = async () => {
        const info = (await open.call(source)) as Manifest;
        if (source.version === version) return info;
        const message = `${quote(path)} has changed since somebody asked for it: ask again`;
        throw new TensorwireError("SOURCE_CHANGED", message);
      };
      return source;
    };
    return { options: { ...this.options, spool, version }, open };
  }

  async #versionOf(path: string): Promise<string | undefined> {
    const source = this.#source(path);
    try {
      await source.open();
      return source.version;
    } finally {
      await source.close();
    }
  }

  /** Where it lies, with the folder's own spelling of every part: where case means nothing, a name still is one name. */
  async #pathOf(name: string): Promise<string | undefined> {
    let path = this.path;
    try {
      for (const segment of name.split("/")) {
        if (!(await readdir(path)).includes(segment)) return undefined;
        path = join(path, segment);
      }
      const real = await realpath(path);
      return real.startsWith(this.path.endsWith(sep) ? this.path : this.path + sep) &&
        (await stat(real)).isFile()
        ? path
        : undefined;
    } catch {
      // Gone meanwhile, or not to be read: there is no model for anybody who asks.
      return undefined;
    }
  }

  get #terms(): ArtifactOptions {
    return { within: this.path, backend: this.#backend };
  }

  /** Looked at again when the file is open: a link may have come between. */
  #source(path: string): ModelSource | EncodedSource {
    const within = this.path;
    if (path.endsWith(INDEX)) return shardedSafetensorsSource(path, { within });
    if (!path.endsWith(".twire")) return safetensorsSource(path, { within });
    return artifactSource(path, this.#terms);
  }
}
