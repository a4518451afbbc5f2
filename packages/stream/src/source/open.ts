import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ChunkPlan, type ChunkRange, type Manifest, quote, TensorwireError } from "@tensorwire/core";
import type { ResolvedOptions, StreamOptions } from "../options.js";
import { artifactSource } from "./artifact.js";
import { decodedArtifact } from "./decoded.js";
import { fileFault } from "./file-fault.js";
import { rawFileSource } from "./raw-file.js";
import { safetensorsSource } from "./safetensors.js";
import { shardedSafetensorsSource } from "./sharded.js";
import {
  type EncodedSource,
  isEncodedSource,
  isModelSource,
  type ModelSource,
  type SourceMemory,
} from "./source.js";
import { type SourceValue, type TensorMap, tensorsSource } from "./tensors.js";
import { MAX_TEXT_FILE_BYTES, readTextFile } from "./text-file.js";
import { tensorflowJsSource } from "./tfjs.js";

type OpenSourceOptions = Pick<StreamOptions, "codec" | "policy" | "chunkBytes">;
type OpenSourceSettings = Pick<ResolvedOptions, "limits" | "registry" | "backend">;

/** What a model to send is named by: a path, tensors in memory (in a list their names are their places), or a source. */
export type SourceLike = string | TensorMap | readonly SourceValue[] | ModelSource | EncodedSource;

/**
 * The source for whatever a caller names a model by. Nothing of it is open yet.
 * @throws TensorwireError `INVALID_ARGUMENT`, `SOURCE_READ`, `SOURCE_INVALID`.
 */
export async function openSource(
  source: SourceLike,
  options: OpenSourceOptions,
  settings: OpenSourceSettings,
): Promise<ModelSource | EncodedSource> {
  const found = typeof source === "string" ? await sourceOfPath(source, settings) : sourceOfValue(source);
  return isEncodedSource(found) ? suited(found, options, settings) : found;
}

/** A file's format shows in its name, or, for JSON, in its content. */
async function sourceOfPath(
  path: string,
  settings: OpenSourceSettings,
): Promise<ModelSource | EncodedSource> {
  const { limits, registry, backend } = settings;
  const stats = await stat(path).catch((error) => Promise.reject(fileFault(error, path, "opened")));
  if (stats.isDirectory()) return sourceOfPath(await modelOfDirectory(path), settings);
  if (path.endsWith(".safetensors")) return safetensorsSource(path, { limits });
  if (path.endsWith(".index.json")) return shardedSafetensorsSource(path, { limits });
  if (path.endsWith(".twire")) {
    return artifactSource(path, { limits, registry, backend });
  }
  const isTfjs = path.endsWith(".json") && stats.size <= MAX_TEXT_FILE_BYTES && (await isTfjsModel(path));
  return isTfjs ? tensorflowJsSource(path) : rawFileSource(path);
}

const INDEX = "model.safetensors.index.json";

async function modelOfDirectory(path: string): Promise<string> {
  const names = (await readdir(path).catch((error) => Promise.reject(fileFault(error, path, "read")))).sort();
  const single = names.filter((name) => name.endsWith(".safetensors"));
  const found =
    [INDEX, "model.safetensors"].find((name) => names.includes(name)) ??
    (single.length === 1 ? single[0] : undefined) ??
    (names.includes("model.json") ? "model.json" : undefined);
  if (found !== undefined) return join(path, found);
  const several = single.length
    ? `it has ${single.length} *.safetensors and no index: name one of them, ${quote(single[0]!)} for example`
    : "name the file";
  throw new TensorwireError(
    "SOURCE_INVALID",
    `directory ${quote(path)} holds no model: looked for ${INDEX}, model.safetensors, one *.safetensors, model.json; ${several}`,
  );
}

/** Whether a JSON file is a TensorFlow.js model; one that is broken, and seems to be, is left to its source's errors. */
async function isTfjsModel(path: string): Promise<boolean> {
  const { text } = await readTextFile(path).catch((error) => {
    if ((error as TensorwireError).code === "SOURCE_INVALID") return { text: "" };
    throw error;
  });
  if (!text.includes('"weightsManifest"')) return false;
  try {
    const model: unknown = JSON.parse(text);
    return typeof model === "object" && model !== null && Object.hasOwn(model, "weightsManifest");
  } catch {
    return true;
  }
}

function sourceOfValue(source: Exclude<SourceLike, string>): ModelSource | EncodedSource {
  if (isList(source)) return tensorsSource(Object.fromEntries(source.entries()));
  if (isModelSource(source)) return source;
  if (source instanceof Map || isPlainObject(source)) return tensorsSource(source as TensorMap);
  const given: unknown = source;
  if (typeof given === "object" && given !== null && !ArrayBuffer.isView(given)) {
    if (Symbol.iterator in given || Symbol.asyncIterator in given) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        "an iterable alone does not say what it will yield: pass fromTensors(infos, iterable), with each tensor's " +
          "name, dtype and shape in infos",
      );
    }
  }
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${describe(given)} is no source: pass a path, a Map or object of tensors, or a source such as fromTensors(…)`,
  );
}

/** Tensors that have names are no list: those would be lost. */
function isList(source: unknown): source is readonly SourceValue[] {
  return (
    Array.isArray(source) && source.every((each) => typeof each === "object" && each && !("name" in each))
  );
}

/** An object of any other class would pass as a model without tensors. */
function isPlainObject(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (Symbol.iterator in value || Symbol.asyncIterator in value) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function describe(value: unknown): string {
  if (typeof value !== "object" || value === null) return `${value === null ? "null" : typeof value}`;
  return `an object of class ${value.constructor?.name ?? "Object"}`;
}

/** Its chunks are what they are: other codecs need it decoded, another chunk size is refused. */
function suited(
  artifact: EncodedSource,
  { codec, policy, chunkBytes }: OpenSourceOptions,
  { backend, registry }: OpenSourceSettings,
): ModelSource | EncodedSource {
  const checked = chunkBytes === undefined ? artifact : new FixedChunks(artifact, chunkBytes);
  if (codec === undefined && policy === undefined) return checked;
  return decodedArtifact(checked, { backend, registry });
}

/** An artifact of which a chunk size was asked: known to be its own only when it is open. */
class FixedChunks implements EncodedSource {
  readonly name: string;
  readonly readEncoded: EncodedSource["readEncoded"];

  constructor(
    private readonly artifact: EncodedSource,
    private readonly chunkBytes: number,
  ) {
    this.name = artifact.name;
    this.readEncoded = (chunk, pool) => artifact.readEncoded(chunk, pool);
  }

  async open(): Promise<Manifest> {
    const manifest = await this.artifact.open();
    if (manifest.chunkBytes === this.chunkBytes) return manifest;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(this.name)} is in chunks of ${manifest.chunkBytes} bytes, which stay as they are: leave chunkBytes ` +
        `(${this.chunkBytes}) out, or make the artifact again`,
    );
  }

  want(runs: readonly ChunkRange[]): void {
    this.artifact.want?.(runs);
  }

  get version(): string | undefined {
    return this.artifact.version;
  }

  get clamped(): number | undefined {
    return this.artifact.clamped;
  }

  get finite(): boolean | undefined {
    return this.artifact.finite;
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.artifact.memory?.(plan) ?? { slabs: 1, bytes: 0 };
  }

  async verify(): Promise<void> {
    await this.artifact.verify?.();
  }

  close(): Promise<void> {
    return this.artifact.close();
  }
}
