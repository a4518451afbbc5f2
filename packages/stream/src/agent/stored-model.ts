import { quote, TensorwireError } from "@tensorwire/core";
import * as v from "valibot";
import { ReferenceSchema, TransferId } from "./reference.js";

/** What an agent remembers of a model that is published from it. */
export const StoredSchema = v.object({
  id: TransferId,
  name: v.string(),
  /** The principal that has uploaded it; undefined where nobody was asked, and of what is published by a program of this machine. */
  owner: v.optional(v.string()),
  /** In the agent's own folder of the exchange directory: the model as it was, or encoded. */
  file: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]+\.(?:safetensors|twire)$/)),
  digest: ReferenceSchema.entries.digest,
  /** Of its tensors, decoded. */
  bytes: v.number(),
  storedBytes: v.number(),
  /** What has to be the same whenever it is sent again, so that its digest is. */
  chunkBytes: v.number(),
  integrity: v.picklist(["xxh64", "sha256"]),
  compress: v.optional(v.picklist(["auto", "never"])),
  /** In milliseconds since 1970. */
  created: v.number(),
  expires: v.number(),
  /** It is to be had no more, and goes with the last who is having it. */
  freed: v.optional(v.boolean()),
});

/** A model that is published from here. */
export type StoredModel = v.InferOutput<typeof StoredSchema>;

/** Behind the id in the name of a file that the agent has been given, until it is published. */
export const TAKEN_SUFFIX = ".taken";

/** An id stands for one model, as long as that is here: publishing by it again would be another one. */
export function takenError(id: string): TensorwireError {
  const message = `${quote(id)} is the id of a model that is published here already: take a new one`;
  return new TensorwireError("TARGET_EXISTS", message);
}
