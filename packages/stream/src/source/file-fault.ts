import { asTensorwireError, type ErrorCode, quote, TensorwireError } from "@tensorwire/core";

/** What a system error means, and whether the same call can succeed without somebody's help. */
const REASONS: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "there is no such file"],
  ["ENOTDIR", "a part of the path is no directory"],
  ["EACCES", "permission denied"],
  ["EPERM", "not permitted"],
  ["ELOOP", "too many symbolic links"],
  ["ENAMETOOLONG", "the name is too long"],
]);

/** An error of the file system as `SOURCE_READ`, naming the file. */
export function fileFault(error: unknown, path: string, doing: "opened" | "read"): TensorwireError {
  if (error instanceof TensorwireError) return error;
  const code = (error as NodeJS.ErrnoException)?.code ?? "";
  const reason = REASONS.get(code);
  const detail = reason ? `${reason} (${code})` : error instanceof Error ? error.message : String(error);
  const message = `${quote(path)} cannot be ${doing}: ${detail}`;
  return new TensorwireError("SOURCE_READ", message, {
    cause: error,
    retryable: reason === undefined,
  });
}

/** A file of which the parsers in core know only the bytes: its name goes into their errors, `at` says where in it. */
export function inFile(error: unknown, path: string, at?: number, code?: ErrorCode): TensorwireError {
  const known = asTensorwireError(error, "INTERNAL");
  const { tensor, chunk, retryable } = known;
  const place = at === undefined ? quote(path) : `${quote(path)}, byte ${at}`;
  // The constructor puts tensor and chunk in front again.
  const front =
    tensor === undefined ? "" : `tensor ${quote(tensor)}${chunk === undefined ? "" : `, chunk ${chunk}`}: `;
  const message = known.message.startsWith(front) ? known.message.slice(front.length) : known.message;
  return new TensorwireError(code ?? known.code, `${place}: ${message}`, {
    tensor,
    chunk,
    cause: known,
    retryable: code === undefined ? retryable : undefined,
  });
}
