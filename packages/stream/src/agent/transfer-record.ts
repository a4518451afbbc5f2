import { ERROR_CODES, type ErrorCode, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { ReferenceSchema, TransferId } from "./reference.js";

export const KINDS = ["publish", "fetch", "send"] as const;
export type TransferKind = (typeof KINDS)[number];

const FaultSchema = v.object({
  code: v.picklist(ERROR_CODES),
  message: v.string(),
  retryable: v.boolean(),
  peerCode: v.optional(v.string()),
  tensor: v.optional(v.string()),
});

/** An error, as programs are told of it. */
export type Fault = v.InferOutput<typeof FaultSchema>;

export function faultOf(error: TensorwireError): Fault {
  const { code, message, retryable, peerCode, tensor } = error;
  return { code, message, retryable, ...(peerCode && { peerCode }), ...(tensor !== undefined && { tensor }) };
}

export function errorOf({ code, message, retryable, peerCode }: Fault): TensorwireError {
  return new TensorwireError(code as ErrorCode, message, { retryable, peerCode: peerCode as ErrorCode });
}

/** What an agent remembers of a transfer over its restart. */
export const TransferSchema = v.object({
  id: TransferId,
  kind: v.picklist(KINDS),
  name: v.string(),
  state: v.picklist(["running", "done", "failed", "cancelled"]),
  /** As it was asked for: asked for again it is the same transfer. */
  request: v.looseObject({}),
  /** What the agent's defaults made of it then. */
  terms: v.optional(v.looseObject({})),
  /** In milliseconds since 1970; it is forgotten then, if it is over. */
  created: v.number(),
  expires: v.number(),
  totalBytes: v.number(),
  sourceBytes: v.number(),
  wireBytes: v.number(),
  ref: v.optional(ReferenceSchema),
  path: v.optional(v.string()),
  /** The file at `path` is the agent's, to be removed with the transfer. */
  owned: v.optional(v.boolean()),
  /** The file at `path` is that of a model that is published here, by its id. */
  held: v.optional(TransferId),
  error: v.optional(FaultSchema),
});

export type TransferRecord = v.InferOutput<typeof TransferSchema>;

/** What programs are told of it. */
export function transferJson(record: TransferRecord): object {
  const { request, terms, owned, held, created, expires, ...told } = record;
  return { ...told, created: Math.floor(created / 1000), expires: Math.ceil(expires / 1000) };
}
