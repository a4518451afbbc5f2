import {
  type CodecRegistry,
  type CodecSpec,
  type Manifest,
  type ModelInfo,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { checkStreamOptions, checkWord, type ResolvedOptions, type StreamOptions } from "../options.js";
import { isExact } from "../session/exact.js";
import { joinedToken } from "../source/file-version.js";
import { openSource, type SourceLike } from "../source/open.js";
import { type EncodedSource, isEncodedSource, isModelSource, type ModelSource } from "../source/source.js";
import { shortSpecText } from "../spec-text.js";
import type { PublishOptions } from "./publications.js";
import { checkRetention, type Retention } from "./retention.js";

/** How a model is published that is encoded once, and served from the artifact. */
export interface SpoolOptions extends PublishOptions {
  /** The folder of the artifacts: `<spool>/<name>/<version>-<codec>.twire`. It must exist. */
  readonly spool: string;
  /** Those that receivers may have; each is made when one first asks for it. Default: `codec`, or what `policy` says, alone. */
  readonly codecs?: readonly (string | CodecSpec)[] | undefined;
  /** Which versions stay. Default: two. */
  readonly retention?: Retention | undefined;
  /** `"none"`: the source is read once, into an artifact that is exact, and the others are made from that. */
  readonly spoolAs?: "none" | undefined;
  /** Encode the source anew also where it is an artifact that has lost something already. Default false. */
  readonly transcode?: boolean | undefined;
  /** `"now"`: encode before `publish` resolves, for a source that will change. Default `"demand"`. */
  readonly encode?: "demand" | "now" | undefined;
}

/** One of a publication's codecs. */
export interface SpoolCodec {
  /** As `?codec=` takes it. */
  readonly text: string;
  /** What to encode with; nothing for an artifact that stays as it is. */
  readonly encoding: Pick<StreamOptions, "codec" | "policy">;
}

export type PublishedSource = SourceLike | (() => SourceLike | Promise<SourceLike>);

/** Codecs that do not stand for one. */
const POLICY = "policy";
const AS_IT_IS = "as-it-is";
export const EXACT: SpoolCodec = { text: "none", encoding: { codec: "none" } };

/** What a call of `publish` asks for, checked. */
export class SpoolRequest {
  readonly codecs: readonly SpoolCodec[];
  readonly retention: Retention;
  /** Made first, and the others from it. */
  readonly base: SpoolCodec | undefined;
  /** All that decides, beside source and codec, what an artifact is. */
  readonly encoding: string;
  /** The source can be opened once. */
  readonly once: boolean;
  #opened = false;

  /** @throws TensorwireError `INVALID_ARGUMENT`, `CODEC_UNSUPPORTED`. */
  constructor(
    name: string,
    private readonly source: PublishedSource,
    readonly options: SpoolOptions,
    private readonly settings: ResolvedOptions,
  ) {
    const { policy, spoolAs, encode, retention = {} } = options;
    checkStreamOptions(options);
    checkWord("spoolAs", spoolAs, ["none"]);
    checkWord("encode", encode, ["demand", "now"]);
    checkRetention(retention);
    this.retention = retention;
    this.codecs = codecsOf(options, isArtifact(source), settings.registry);
    this.base = spoolAs && EXACT;
    this.once = isModelSource(source);
    if (this.once && !this.base && this.codecs.length > 1) {
      const message =
        `${quote(name)}: a source is read once, and ${this.codecs.length} codecs are asked for: publish a function that makes ` +
        'one for each, or spool it exactly first (spoolAs: "none")';
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const { minElements, compress, nonFinite, seed, chunkBytes, integrity, transcode = false } = options;
    const rest = {
      policy,
      minElements,
      compress,
      nonFinite,
      seed,
      chunkBytes,
      integrity,
      spoolAs,
      transcode,
    };
    this.encoding = joinedToken(JSON.stringify(rest));
  }

  /** Whether it reads the very object that another one does: which has been changed meanwhile, where it is published again. */
  shares(other: SpoolRequest): boolean {
    return typeof this.source === "object" && this.source === other.source;
  }

  /**
   * The version token of the source, as far as it is known before it is read: of a file, or the caller's word.
   * @throws TensorwireError as the source's `open`.
   */
  async token(): Promise<string | undefined> {
    if (this.options.version !== undefined) return this.options.version;
    if (typeof this.source !== "string") return undefined;
    const source = await this.#made();
    try {
      this.#check(source, await source.open(), undefined);
      return source.version;
    } finally {
      await source.close();
    }
  }

  /**
   * The source for one artifact, to be opened by whoever reads it.
   * @param token What its version token must still be.
   * @throws TensorwireError `SOURCE_READ` where it can be opened no more, and as the caller's function.
   */
  async open(token: string | undefined): Promise<ModelSource | EncodedSource> {
    if (this.once && this.#opened) {
      const message = "its source could be read once, and that has failed: publish it again";
      throw new TensorwireError("SOURCE_READ", message, { retryable: false });
    }
    this.#opened = true;
    const source = await this.#made();
    const { open } = source as ModelSource;
    source.open = async () => {
      const info = await open.call(source);
      this.#check(source, info, token);
      return info as Manifest;
    };
    return source;
  }

  async #made(): Promise<ModelSource | EncodedSource> {
    const { source, settings } = this;
    return openSource(typeof source === "function" ? await source() : source, {}, settings);
  }

  #check(source: ModelSource | EncodedSource, info: ModelInfo | Manifest, token: string | undefined): void {
    const own = this.options.version === undefined;
    if (own && token !== undefined && source.version !== token) {
      const message = `${quote(source.name)} is not any more what was published: publish it again`;
      throw new TensorwireError("SOURCE_CHANGED", message, { retryable: false });
    }
    if (!isEncodedSource(source) || this.options.transcode) return;
    if (!this.base && this.codecs.every(({ text }) => text === AS_IT_IS)) return;
    const lossy = (info as Manifest).tensors.find(({ codec }) => !isExact(codec));
    if (!lossy) return;
    const message =
      `${quote(source.name)} has lost something to ${lossy.codec.name} already, and would lose more: publish it as it is ` +
      "(without a codec), or say transcode: true";
    throw new TensorwireError("INVALID_ARGUMENT", message, { tensor: lossy.name });
  }
}

function codecsOf(
  { codec, codecs, policy }: SpoolOptions,
  artifact: boolean,
  registry: CodecRegistry,
): SpoolCodec[] {
  const given = [codec, codecs, policy].filter((option) => option !== undefined);
  if (given.length > 1) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "give a codec, codecs or a policy: one of them says it all",
    );
  }
  if (policy) return [{ text: POLICY, encoding: { policy } }];
  if (artifact && given.length === 0) return [{ text: AS_IT_IS, encoding: {} }];
  const specs = (codecs ?? [codec ?? "none"]).map((each) => registry.resolve(each));
  const texts = specs.map((spec) => shortSpecText(spec, registry));
  if (specs.length === 0 || new Set(texts).size < texts.length) {
    throw new TensorwireError("INVALID_ARGUMENT", "codecs names each codec once, and one at least");
  }
  return specs.map((spec, i) => ({ text: texts[i]!, encoding: { codec: spec } }));
}

function isArtifact(source: PublishedSource): boolean {
  if (typeof source === "string") return source.endsWith(".twire");
  return isModelSource(source) && isEncodedSource(source);
}
