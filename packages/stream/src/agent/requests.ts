import {
  type CodecSpec,
  defaultCodecs,
  FLOAT_DTYPES,
  type Policy,
  parsePolicy,
  quote,
  resolvePolicy,
  TensorwireError,
} from "@tensorwire/core";
import * as v from "valibot";
import type { PublishOptions } from "../server/publications.js";
import { checkModelName } from "../server/model-path.js";
import { parseSpecText } from "../spec-text.js";
import { parseReference, TransferId } from "./reference.js";

/** How a model is encoded, as far as a program says so. */
export type Encoding = Pick<
  PublishOptions,
  "codec" | "policy" | "minElements" | "compress" | "nonFinite" | "integrity"
>;

/** A model that nobody frees stays no longer than this, whatever is asked for. */
export const MAX_EXPIRES_SECONDS = 30 * 24 * 60 * 60;

const Path = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(4096),
  v.check((path) => !path.includes("\0"), "a path has no zero byte"),
);
const Seconds = v.pipe(v.number(), v.minValue(1), v.maxValue(MAX_EXPIRES_SECONDS));

const EncodingEntries = {
  codec: v.optional(v.union([v.pipe(v.string(), v.maxLength(64)), v.looseObject({ name: v.string() })])),
  policy: v.optional(v.looseObject({})),
  minElements: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  compress: v.optional(v.picklist(["auto", "never"])),
  nonFinite: v.optional(v.picklist(["exact", "error"])),
  integrity: v.optional(v.picklist(["xxh64", "sha256"])),
};

const PublishSchema = v.strictObject({
  id: v.optional(TransferId),
  name: v.string(),
  path: Path,
  consume: v.optional(v.boolean()),
  expiresSeconds: v.optional(Seconds),
  ...EncodingEntries,
});

const FetchSchema = v.strictObject({
  id: v.optional(TransferId),
  ref: v.unknown(),
  to: v.optional(Path),
  overwrite: v.optional(v.boolean()),
  outputDtype: v.optional(v.picklist(FLOAT_DTYPES)),
  expiresSeconds: v.optional(Seconds),
});

const SendSchema = v.strictObject({
  id: v.optional(TransferId),
  path: Path,
  to: v.pipe(v.string(), v.maxLength(4096)),
  ...EncodingEntries,
});

/** What is published: a file, or (`body`) the body of the request that has become one. */
export interface PublishRequest extends Encoding {
  readonly name: string;
  readonly path: string;
  readonly body?: boolean | undefined;
  readonly consume?: boolean | undefined;
  readonly expiresSeconds?: number | undefined;
}

export interface FetchRequest extends Omit<v.InferOutput<typeof FetchSchema>, "id" | "ref"> {
  readonly ref: ReturnType<typeof parseReference>;
}

export type SendRequest = Omit<v.InferOutput<typeof SendSchema>, "id" | keyof Encoding> & Encoding;

/** A request, and the transfer that the program wants it to be. */
export interface Asked<Request> {
  readonly id: string | undefined;
  readonly request: Request;
}

/** Of a request, what is for the encoder. */
export function encodingOf({
  codec,
  policy,
  minElements,
  compress,
  nonFinite,
  integrity,
}: Encoding): Encoding {
  return { codec, policy, minElements, compress, nonFinite, integrity };
}

/** @throws TensorwireError `INVALID_ARGUMENT`, `CODEC_UNSUPPORTED`. */
export function parsePublish(given: unknown): Asked<PublishRequest> {
  const { id, codec, policy, ...rest } = checked(PublishSchema, given);
  checkModelName(rest.name);
  return { id, request: { ...rest, ...chosen(codec, policy) } };
}

/**
 * The same of a publication whose file is the request's body.
 * @param query What is JSON in a body may be so here too.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CODEC_UNSUPPORTED`.
 */
export function parsePublishQuery(name: string, query: URLSearchParams): Asked<PublishRequest> {
  const given: Record<string, unknown> = {};
  for (const [key, text] of query) given[key] = key === "id" ? text : fromQuery(text);
  if ("path" in given || "name" in given || "consume" in given) {
    const message =
      "a body has its name in the path of the request, and neither a path nor anything to consume";
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  const { id, request } = parsePublish({ ...given, name, path: "body" });
  return { id, request: { ...request, body: true } };
}

function fromQuery(text: string): unknown {
  if (!/^(?:\{.*\}|\d+(?:\.\d+)?)$/s.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(text)} is no JSON`);
  }
}

/** @throws TensorwireError `INVALID_ARGUMENT`, `VERSION_UNSUPPORTED`. */
export function parseFetch(given: unknown): Asked<FetchRequest> {
  const { id, ref, ...rest } = checked(FetchSchema, given);
  return { id, request: { ...rest, ref: parseReference(ref) } };
}

/** @throws TensorwireError `INVALID_ARGUMENT`, `CODEC_UNSUPPORTED`. */
export function parseSend(given: unknown): Asked<SendRequest> {
  const { id, codec, policy, ...rest } = checked(SendSchema, given);
  return { id, request: { ...rest, ...chosen(codec, policy) } };
}

/** Looked at here, so that a program hears of a mistake at once. */
function chosen(codec: unknown, policy: unknown): { codec?: CodecSpec; policy?: Policy } {
  if (codec !== undefined && policy !== undefined) {
    throw new TensorwireError("INVALID_ARGUMENT", "give a codec or a policy: one of them says it all");
  }
  if (codec !== undefined) {
    return {
      codec: typeof codec === "string" ? parseSpecText(codec) : defaultCodecs.resolve(codec as CodecSpec),
    };
  }
  if (policy === undefined) return {};
  const parsed = parsePolicy(policy);
  resolvePolicy(parsed, []);
  return { policy: parsed };
}

function checked<const S extends v.GenericSchema>(schema: S, given: unknown): v.InferOutput<S> {
  const read = v.safeParse(schema, given, { abortEarly: true });
  if (read.success) return read.output;
  const [issue] = read.issues;
  const place = v.getDotPath(issue);
  const where = place === null ? "the request" : quote(place);
  throw new TensorwireError("INVALID_ARGUMENT", `${where} is not what it should be: ${issue.message}`);
}

/** Without what is not said. */
export function defined<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}
