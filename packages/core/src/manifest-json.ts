import type { CodecSpec } from "./codec/codec.js";
import type { DType } from "./dtype.js";
import { quote, TensorwireError } from "./errors.js";
import { JsonReader } from "./json-reader.js";
import { checkLimit, type Limits } from "./limits.js";
import type { Manifest, SourceHeader } from "./manifest.js";
import type { TensorInfo } from "./tensor.js";
import { readDType, readShape } from "./tensor-json.js";

/** A manifest as it is written: JSON of a known form, not yet checked against itself. */
export interface WrittenManifest
  extends Pick<Manifest, "kind" | "chunkBytes" | "metadata" | "header" | "integrity"> {
  /** Each distinct codec once. */
  readonly codecs: readonly CodecSpec[];
  readonly tensors: readonly TensorInfo[];
  /** Index of each tensor's codec. */
  readonly codecOf: readonly number[];
}

const MAX_CODECS = 65535;
const MAX_CODEC_NAME = 64;
const MEMBERS = ["kind", "chunkBytes", "codecs", "tensors", "metadata"] as const;
/** Members of a tensor's row: `[name, dtype, shape, index of the codec]`. */
const ROW = 4;

const encoder = new TextEncoder();

/**
 * The manifest's bytes: JSON in UTF-8, each distinct codec written once.
 * @example
 * const tensors = [{ name: "x", dtype: "F32", shape: [3], codec: { name: "none" } }] as const;
 * const bytes = encodeManifest({ kind: "model", chunkBytes: 32768, tensors, metadata: new Map() });
 * console.log(new TextDecoder().decode(bytes).startsWith('{"kind":"model"')); // true
 */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { kind, chunkBytes, metadata, header, integrity } = manifest;
  const codecs: CodecSpec[] = [];
  const indexes = new Map<string, number>();
  // A policy gives most tensors the same object: writing it once more to compare costs more than all the rest.
  const known = new Map<CodecSpec, number>();
  const tensors = manifest.tensors.map(({ name, dtype, shape, codec }) => {
    let index = known.get(codec);
    if (index === undefined) {
      const text = JSON.stringify(codec);
      index = indexes.get(text) ?? codecs.push(codec) - 1;
      indexes.set(text, index);
      known.set(codec, index);
    }
    return [name, dtype, shape, index];
  });
  const written = {
    kind,
    chunkBytes,
    codecs,
    tensors,
    metadata: [...metadata],
    ...(header && { header }),
    // One spelling for one thing: what is usual is left out.
    ...(integrity === "sha256" && { integrity }),
  };
  return encoder.encode(JSON.stringify(written));
}

/**
 * Reads a manifest's bytes straight into what they describe: a hostile one is refused where it goes wrong, before
 * memory is taken for what it would have made of a general parser.
 * @throws TensorwireError `MANIFEST_INVALID`, `LIMIT_EXCEEDED`.
 */
export function readManifest(bytes: Uint8Array, limits: Limits): WrittenManifest {
  return new ManifestReader(textOf(bytes), limits).read();
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new TensorwireError("MANIFEST_INVALID", "the manifest is not UTF-8", { cause });
  }
}

class ManifestReader {
  readonly #json: JsonReader;
  readonly #seen = new Set<string>();
  /** The tensor being read: errors name it. */
  #tensor: string | undefined;
  #kind: Manifest["kind"] = "model";
  #chunkBytes = 0;
  #header: SourceHeader | undefined;
  #integrity: "sha256" | undefined;
  readonly #codecs: CodecSpec[] = [];
  readonly #tensors: TensorInfo[] = [];
  readonly #codecOf: number[] = [];
  readonly #metadata = new Map<string, string>();

  constructor(
    text: string,
    private readonly limits: Limits,
  ) {
    this.#json = new JsonReader(text, "manifest");
  }

  read(): WrittenManifest {
    try {
      this.#json.object((member) => this.#member(member));
      this.#json.end();
      for (const member of MEMBERS) {
        if (!this.#seen.has(member)) throw this.#json.fault(`has no ${member}`);
      }
    } catch (cause) {
      if (cause instanceof TensorwireError && cause.code === "LIMIT_EXCEEDED") throw cause;
      throw new TensorwireError("MANIFEST_INVALID", (cause as Error).message, {
        cause,
        tensor: this.#tensor,
      });
    }
    return {
      kind: this.#kind,
      chunkBytes: this.#chunkBytes,
      codecs: this.#codecs,
      tensors: this.#tensors,
      codecOf: this.#codecOf,
      metadata: this.#metadata,
      header: this.#header,
      integrity: this.#integrity,
    };
  }

  #member(member: string): void {
    const json = this.#json;
    this.#seen.add(member);
    if (member === "kind") this.#kind = this.#readKind();
    else if (member === "chunkBytes") this.#chunkBytes = json.count();
    else if (member === "codecs") json.array((i) => this.#readCodec(i));
    else if (member === "tensors") json.array((i) => this.#readTensor(i));
    else if (member === "metadata") json.array((i) => this.#readPair(i));
    else if (member === "header") this.#header = this.#readHeader();
    else if (member === "integrity") this.#integrity = this.#readIntegrity();
    else throw json.fault(`unknown member ${quote(member)}`);
  }

  #readKind(): Manifest["kind"] {
    const kind = this.#json.string();
    if (kind !== "model" && kind !== "raw") throw this.#json.fault(`unknown kind ${quote(kind)}`);
    return kind;
  }

  #readIntegrity(): "sha256" {
    const integrity = this.#json.string();
    if (integrity !== "sha256") throw this.#json.fault(`unknown integrity ${quote(integrity)}`);
    return integrity;
  }

  #readCodec(index: number): void {
    if (index === MAX_CODECS) throw this.#json.fault(`more than ${MAX_CODECS} codecs`);
    const parameters: [string, number | boolean | string][] = [];
    this.#json.object((key) => {
      const value = this.#json.value();
      if (typeof value !== "number" && typeof value !== "boolean" && typeof value !== "string") {
        throw this.#json.fault(
          `codec ${index}: ${quote(key)} is neither a number nor a boolean nor a string`,
        );
      }
      parameters.push([key, value]);
    });
    // `fromEntries` makes an own property of any key, `__proto__` too, which the codec then refuses like any other.
    const spec: Record<string, unknown> = Object.fromEntries(parameters);
    const { name } = spec;
    if (typeof name !== "string" || name.length > MAX_CODEC_NAME) {
      throw this.#json.fault(`codec ${index} has no name of at most ${MAX_CODEC_NAME} characters`);
    }
    this.#codecs.push({ ...spec, name });
  }

  #readTensor(index: number): void {
    const json = this.#json;
    if (index === this.limits.maxTensors) {
      checkLimit(this.limits, "maxTensors", index + 1, "the number of tensors");
    }
    let name = "";
    let dtype: DType = "U8";
    let shape: readonly number[] = [];
    let members = 0;
    json.array((member) => {
      if (member === 0) name = this.#tensor = json.ownString();
      else if (member === 1) dtype = readDType(json);
      else if (member === 2) shape = readShape(json, name, this.limits);
      else if (member === 3) this.#codecOf.push(json.count());
      else throw json.fault("more than name, dtype, shape and codec");
      members = member + 1;
    });
    if (members < ROW) throw json.fault("less than name, dtype, shape and codec");
    this.#tensors.push({ name, dtype, shape });
    this.#tensor = undefined;
  }

  #readPair(index: number): void {
    if (index === this.limits.maxTensors) {
      checkLimit(
        this.limits,
        "maxTensors",
        index + 1,
        "the number of metadata entries, as if they were tensors,",
      );
    }
    const pair: string[] = [];
    this.#json.array((member) => {
      if (member === 2) throw this.#json.fault("a metadata entry is more than a key and a value");
      pair.push(this.#json.string());
    });
    const [key, value] = pair;
    if (key === undefined || value === undefined) throw this.#json.fault("a metadata entry has no value");
    if (this.#metadata.has(key)) throw this.#json.fault(`the metadata key ${quote(key)} stands twice`);
    this.#metadata.set(key, value);
  }

  #readHeader(): SourceHeader {
    const json = this.#json;
    let format: string | undefined;
    let text: string | undefined;
    json.object((key) => {
      if (key === "format") format = json.string();
      else if (key === "text") text = json.string();
      else throw json.fault(`the source's header: unknown member ${quote(key)}`);
    });
    if (format !== "safetensors")
      throw json.fault(`the source's header: unknown format ${quote(String(format))}`);
    if (text === undefined) throw json.fault("the source's header: has no text");
    return { format, text };
  }
}
