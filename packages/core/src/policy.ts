import * as v from "valibot";
import type { CodecSpec } from "./codec/codec.js";
import { type CodecRegistry, defaultCodecs } from "./codec/registry.js";
import { byteLength, DTYPE_BITS, type DType } from "./dtype.js";
import { TensorwireError } from "./errors.js";
import { Glob } from "./glob.js";
import { elementCount, type TensorInfo } from "./tensor.js";

/**
 * Tensors with fewer elements stay as they are unless a policy says otherwise: norms and biases, whose error costs more
 * than their bytes save. bitsandbytes' optimizers draw the same line (`min_8bit_size` = 4096).
 */
export const DEFAULT_MIN_ELEMENTS = 4096;

/** A codec for the tensors that meet all of its conditions. */
export interface Rule {
  /** Patterns over the tensor's name, one of which must match: `*` is any run of characters, `?` one. */
  readonly match?: string | readonly string[] | undefined;
  /** The dtypes that the rule is for. Default: any. */
  readonly dtype?: DType | readonly DType[] | undefined;
  /** Fewest elements that the rule is for. With it, the policy's own `minElements` does not apply. */
  readonly minElements?: number | undefined;
  /** Most elements that the rule is for. */
  readonly maxElements?: number | undefined;
  /** A rule has this or `use_quantization`. */
  readonly codec?: string | CodecSpec | undefined;
  /** As NEBULA's users write it: `true` is `float16`, `false` is `none`. Instead of `codec`. */
  readonly use_quantization?: boolean | undefined;
}

/** Which codec each tensor gets: that of the first rule that is for it, else `codec`. */
export interface Policy {
  /** In the order in which they are tried. */
  readonly rules?: readonly Rule[] | undefined;
  /** The codec where no rule matches; `none` by default. */
  readonly codec?: string | CodecSpec | undefined;
  /** As NEBULA's users write it: `true` is `float16`, `false` is `none`. Instead of `codec`. */
  readonly use_quantization?: boolean | undefined;
  /**
   * Tensors with fewer elements than this travel as `none` under the default codec and under rules that have no
   * `minElements` of their own; `DEFAULT_MIN_ELEMENTS` by default, 0 for no such bound.
   */
  readonly minElements?: number | undefined;
}

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
// Bounds on what an untrusted policy can make the matching cost: names are at most 4 KiB.
const MAX_RULES = 1024;
const MAX_ALTERNATIVES = 256;
const MAX_PATTERN = 256;

const Pattern = v.pipe(v.string(), v.maxLength(MAX_PATTERN));
const Dtype = v.picklist(Object.keys(DTYPE_BITS) as DType[]);
const CodecName = v.pipe(v.string(), v.minLength(1), v.maxLength(64));
// What else a spec holds is for its codec to judge.
const Spec = v.looseObject({ name: CodecName });

// Chosen by type, where a union would only say that neither alternative fits.
const CodecChoice = v.lazy((given) => (typeof given === "string" ? CodecName : Spec));

/** What chooses a codec, at the policy's top and in a rule. */
const Choice = { codec: v.optional(CodecChoice), use_quantization: v.optional(v.boolean()) };

function oneOrMany<Item extends v.GenericSchema>(item: Item) {
  const many = v.pipe(v.array(item), v.maxLength(MAX_ALTERNATIVES));
  return v.lazy((given): typeof item | typeof many => (Array.isArray(given) ? many : item));
}

const PolicySchema = v.strictObject({
  rules: v.optional(
    v.pipe(
      v.array(
        v.strictObject({
          match: v.optional(oneOrMany(Pattern)),
          dtype: v.optional(oneOrMany(Dtype)),
          minElements: v.optional(Count),
          maxElements: v.optional(Count),
          ...Choice,
        }),
      ),
      v.maxLength(MAX_RULES),
    ),
  ),
  ...Choice,
  minElements: v.optional(Count),
});

/**
 * A policy from JSON that nobody has checked. Whether its codecs exist and take their parameters is known only beside a
 * registry: `resolvePolicy` says that.
 * @throws TensorwireError `INVALID_ARGUMENT` with the path of the fault.
 * @example
 * const policy = parsePolicy({ rules: [{ match: "*.norm.*", codec: "none" }], codec: "blockwise8" });
 * console.log(policy.codec); // blockwise8
 */
export function parsePolicy(json: unknown): Policy {
  const result = v.safeParse(PolicySchema, json, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    throw invalid(v.getDotPath(issue), issue.message);
  }
  const policy = result.output as Policy;
  refuseBoth(policy, "");
  policy.rules?.forEach((rule, i) => {
    refuseBoth(rule, `rules.${i}.`);
    if (codecOf(rule) === undefined) throw invalid(`rules.${i}.codec`, "a rule names a codec");
  });
  return policy;
}

function codecOf({
  codec,
  use_quantization,
}: Pick<Rule, keyof typeof Choice>): string | CodecSpec | undefined {
  if (use_quantization === undefined) return codec;
  return use_quantization ? "float16" : "none";
}

function refuseBoth({ codec, use_quantization }: Pick<Rule, keyof typeof Choice>, where: string): void {
  if (codec === undefined || use_quantization === undefined) return;
  throw invalid(`${where}use_quantization`, "it stands for a codec, and there is one beside it");
}

function invalid(path: string | null, why: string): TensorwireError {
  const where = path === null ? "the policy" : `the policy's ${path}`;
  return new TensorwireError("INVALID_ARGUMENT", `${where} is not valid: ${why}`);
}

const NONE: CodecSpec = Object.freeze({ name: "none" });

interface ResolvedRule {
  readonly globs: readonly Glob[] | undefined;
  readonly dtypes: readonly DType[] | undefined;
  readonly minElements: number;
  readonly maxElements: number;
  /** Elements below which the rule holds, and gives `none`. */
  readonly floor: number;
  readonly codec: CodecSpec;
}

/**
 * The codec of each tensor, its parameters filled in, in the order of `infos`. Where the chosen codec does not take the
 * tensor's dtype, or neither its payload nor a packing would be smaller than the tensor, that is `none`.
 * @throws TensorwireError `INVALID_ARGUMENT` for a policy that is not one, `CODEC_UNSUPPORTED` for an unknown codec,
 * whether or not any tensor would get it.
 * @example
 * const infos = [{ name: "a.norm.weight", dtype: "F32", shape: [8192] }, { name: "a.weight", dtype: "F32", shape: [8192] }] as const;
 * const policy = { rules: [{ match: "*.norm.*", codec: "none" }], codec: "blockwise8" };
 * console.log(resolvePolicy(policy, infos).map(({ name }) => name).join(" ")); // none blockwise8
 */
export function resolvePolicy(
  policy: Policy,
  infos: readonly TensorInfo[],
  registry: CodecRegistry = defaultCodecs,
): CodecSpec[] {
  const parsed = parsePolicy(policy);
  const { rules = [], minElements = DEFAULT_MIN_ELEMENTS } = parsed;
  const resolved = rules.map((rule, i) => resolveRule(rule, minElements, registry, `rules.${i}.codec`));
  resolved.push(resolveRule({ codec: codecOf(parsed) }, minElements, registry, "codec"));
  return infos.map((info) => choose(resolved, info, registry));
}

function resolveRule(rule: Rule, floor: number, registry: CodecRegistry, path: string): ResolvedRule {
  return {
    globs: rule.match === undefined ? undefined : [rule.match].flat().map((pattern) => new Glob(pattern)),
    dtypes: rule.dtype === undefined ? undefined : [rule.dtype].flat(),
    minElements: rule.minElements ?? 0,
    maxElements: rule.maxElements ?? Number.POSITIVE_INFINITY,
    floor: rule.minElements === undefined ? floor : 0,
    codec: resolveCodec(codecOf(rule) ?? "none", registry, path),
  };
}

function resolveCodec(codec: string | CodecSpec, registry: CodecRegistry, path: string): CodecSpec {
  try {
    return registry.resolve(codec);
  } catch (error) {
    if (!(error instanceof TensorwireError)) throw error;
    throw new TensorwireError(error.code, `the policy's ${path}: ${error.message}`, { cause: error });
  }
}

function choose(rules: readonly ResolvedRule[], info: TensorInfo, registry: CodecRegistry): CodecSpec {
  const elements = elementCount(info.shape, info.name);
  // The last rule, the policy's default, has no conditions.
  const rule = rules.find((candidate) => applies(candidate, info, elements))!;
  if (elements < rule.floor) return NONE;
  const codec = registry.get(rule.codec.name);
  if (!codec.supports(info.dtype)) return NONE;
  if (codec.packs) return elements > 0 ? rule.codec : NONE;
  const smaller = codec.payloadBytes(rule.codec, info.dtype, elements) < byteLength(info.dtype, elements);
  return smaller ? rule.codec : NONE;
}

function applies(rule: ResolvedRule, info: TensorInfo, elements: number): boolean {
  if (elements < rule.minElements || elements > rule.maxElements) return false;
  if (rule.dtypes !== undefined && !rule.dtypes.includes(info.dtype)) return false;
  return rule.globs === undefined || rule.globs.some((glob) => glob.matches(info.name));
}
