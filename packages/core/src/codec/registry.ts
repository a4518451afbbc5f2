import { NO_CODEC } from "../digest.js";
import { quote, TensorwireError } from "../errors.js";
import { adaquant } from "./adaquant.js";
import { bfloat16 } from "./bfloat16.js";
import { blockwise8 } from "./blockwise8.js";
import type { Codec, CodecSpec } from "./codec.js";
import { float4 } from "./float4.js";
import { float16 } from "./float16.js";
import { linear2, linear3, linear4, linear5, linear6, linear7, linear8 } from "./linear.js";
import { lossless } from "./lossless.js";
import { none } from "./none.js";
import { normfloat4 } from "./normfloat4.js";

/** Every codec of this library, by id. A new one is a line here. */
export const BUILT_IN_CODECS: readonly Codec[] = Object.freeze([
  none,
  float16,
  bfloat16,
  blockwise8,
  float4,
  normfloat4,
  adaquant,
  lossless,
  linear2,
  linear3,
  linear4,
  linear5,
  linear6,
  linear7,
  linear8,
]);

/**
 * The codecs that one side knows, by name (in policies and manifests) and by number (in chunk records).
 * @example
 * const registry = new CodecRegistry([...BUILT_IN_CODECS]);
 * console.log(registry.get("normfloat4").id === normfloat4.id); // true
 */
export class CodecRegistry {
  readonly #byName = new Map<string, Codec>();
  readonly #byId = new Map<number, Codec>();

  /** @param codecs what it knows to begin with. */
  constructor(codecs: Iterable<Codec> = BUILT_IN_CODECS) {
    for (const codec of codecs) this.register(codec);
  }

  /** Adds a codec. @throws TensorwireError `INVALID_ARGUMENT` where its name or number is taken, or is not one. */
  register(codec: Codec): void {
    if (typeof codec.name !== "string" || codec.name === "") {
      throw new TensorwireError("INVALID_ARGUMENT", "a codec's name is a string that is not empty");
    }
    if (!Number.isInteger(codec.id) || codec.id < 0 || codec.id >= NO_CODEC) {
      throw new TensorwireError("INVALID_ARGUMENT", `codec ${quote(codec.name)} needs an id from 0 to 65534`);
    }
    if (this.#byName.has(codec.name)) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `a codec named ${quote(codec.name)} is registered already`,
      );
    }
    const other = this.#byId.get(codec.id);
    if (other !== undefined) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `codec ${quote(codec.name)} has the id ${codec.id} of codec ${quote(other.name)}`,
      );
    }
    this.#byName.set(codec.name, codec);
    this.#byId.set(codec.id, codec);
  }

  /** The codec of this name. @throws TensorwireError `CODEC_UNSUPPORTED` for a name that is not known. */
  get(name: string): Codec {
    const codec = this.#byName.get(name);
    if (codec !== undefined) return codec;
    throw new TensorwireError(
      "CODEC_UNSUPPORTED",
      `there is no codec ${quote(String(name))} here; known are ${this.names().join(", ")}`,
    );
  }

  /** The codec of this number on the wire. @throws TensorwireError `CODEC_UNSUPPORTED` for a number that is not known. */
  byId(id: number): Codec {
    const codec = this.#byId.get(id);
    if (codec !== undefined) return codec;
    const known = [...this.#byId.values()].map(({ id, name }) => `${id} (${name})`);
    throw new TensorwireError(
      "CODEC_UNSUPPORTED",
      `there is no codec with the id ${id} here; known are ${known.join(", ")}`,
    );
  }

  /** Names of all codecs, in the order they were registered. */
  names(): string[] {
    return [...this.#byName.keys()];
  }

  /**
   * A codec's spec with its defaults filled in; a string is short for a spec without parameters.
   * @throws TensorwireError `CODEC_UNSUPPORTED` for a name that is not known, `INVALID_ARGUMENT` for its parameters.
   */
  resolve(spec: CodecSpec | string): CodecSpec {
    const given = typeof spec === "string" ? { name: spec } : spec;
    if (given === null || typeof given !== "object" || typeof given.name !== "string") {
      throw new TensorwireError("INVALID_ARGUMENT", "a codec is a name, or an object with a name");
    }
    return this.get(given.name).resolve(given);
  }
}

/** The registry that is used where none is given. Registering a codec here makes it known to the whole process. */
export const defaultCodecs = new CodecRegistry();
