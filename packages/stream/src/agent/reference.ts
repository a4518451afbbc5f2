import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { checkModelName } from "../server/model-path.js";

/** The form of references that this version makes, and understands. */
export const REFERENCE_FORM = 1;

/** Of a transfer, and with it of what it has published: drawn here, or by the program that asks. */
export const TransferId = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9_-]{8,64}$/, "8 to 64 letters, digits, - and _"),
);

/** @throws TensorwireError `INVALID_ARGUMENT` for what cannot be the id of a transfer. */
export function checkTransferId(given: string): void {
  const read = v.safeParse(TransferId, given);
  if (read.success) return;
  const message = `${quote(given)} is no transfer's id: that is ${read.issues[0].message}`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

export const ReferenceSchema = v.object({
  tensorwire: v.literal(REFERENCE_FORM),
  name: v.pipe(v.string(), v.maxLength(1024)),
  transfer: TransferId,
  digest: v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{16}|sha256:[0-9a-f]{64})$/, "a digest")),
  bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  /** Seconds since 1970. */
  expires: v.pipe(v.number(), v.finite(), v.minValue(0)),
  home: v.nullable(v.pipe(v.string(), v.maxLength(1024))),
});

/** Stands for one published model in somebody else's messages. Small, and nothing in it is dialled. */
export type Reference = v.InferOutput<typeof ReferenceSchema>;

/**
 * A reference as it came, from a stranger perhaps.
 * @throws TensorwireError `INVALID_ARGUMENT` for what is none, `VERSION_UNSUPPORTED` for one of another form.
 */
export function parseReference(given: unknown): Reference {
  const form = (given as { readonly tensorwire?: unknown } | null)?.tensorwire;
  if (typeof form === "number" && form !== REFERENCE_FORM) {
    const message = `the reference is of form ${form}, and this agent knows form ${REFERENCE_FORM}: update the older side`;
    throw new TensorwireError("VERSION_UNSUPPORTED", message);
  }
  const read = v.safeParse(ReferenceSchema, given, { abortEarly: true });
  if (!read.success) {
    const [issue] = read.issues;
    const place = v.getDotPath(issue) ?? "the whole";
    throw new TensorwireError("INVALID_ARGUMENT", `this is no reference: ${quote(place)}: ${issue.message}`);
  }
  checkModelName(read.output.name);
  return read.output;
}

/** What a home that does not have the model says, and what it means to whoever holds the reference. */
export function goneError(
  { name, expires }: Reference,
  cause: TensorwireError,
  now = Date.now(),
): TensorwireError {
  if (expires * 1000 > now) return cause;
  const when = new Date(expires * 1000).toISOString();
  const message = `the reference to ${quote(name)} has expired (${when}), and the model is gone: publish it again, or let it stay longer (expiresSeconds)`;
  return new TensorwireError("REFERENCE_EXPIRED", message, { cause });
}
