import { asTensorwireError, quote, TensorwireError } from "@tensorwire/core";

/** The error with the client that it is of. An abort is of nobody. */
export function ofClient(error: unknown, id: string): TensorwireError {
  const known = asTensorwireError(error, "SOURCE_READ");
  if (known.code === "ABORTED") return known;
  const { code, tensor, chunk, retryable, peerCode } = known;
  // The place comes first, and an error that has one says it already.
  const place = new TensorwireError(code, "", { tensor, chunk }).message;
  const message = known.message.startsWith(place) ? known.message.slice(place.length) : known.message;
  const detail = { tensor, chunk, retryable, peerCode, cause: known.cause ?? known };
  return new TensorwireError(code, `client ${quote(id)}: ${message}`, detail);
}
