import { chmod, lstat, rename, rm, unlink } from "node:fs/promises";
import {
  asTensorwireError,
  DEFAULT_LIMITS,
  DEFAULT_WINDOW_BYTES,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { resolveChunkBytes, type TransferOptions } from "../options.js";
import type { TransferSummary } from "../session/summary.js";
import { artifactSink } from "../sink/artifact.js";
import { safetensorsSink } from "../sink/safetensors.js";
import { isErrno, targetError } from "../sink/target-error.js";
import { safetensorsSource } from "../source/safetensors.js";
import { streamModel } from "../stream-model.js";
import { transferModel } from "../transfer-model.js";
import type { Move, MoveContext, Outcome, Undo } from "./agent-transfer.js";
import { discardSink } from "./discard-sink.js";
import type { Exchange, HandedFile } from "./exchange.js";
import type { Home } from "./home.js";
import type { ModelStore } from "./model-store.js";
import { patiently } from "./patience.js";
import { REFERENCE_FORM } from "./reference.js";
import type { Encoding, PublishRequest } from "./requests.js";
import { TAKEN_SUFFIX, takenError } from "./stored-model.js";
import { termsOf } from "./terms.js";
import type { TransferRecord } from "./transfer-record.js";

export interface PublishingParts {
  readonly exchange: Exchange;
  readonly store: ModelStore;
  readonly home: Home | undefined;
  readonly options: TransferOptions;
  readonly patienceMs: number;
}

/** Where a file is that the agent has been given, until it is published. */
export const takenFile = (id: string): string => id + TAKEN_SUFFIX;

/** Publishes a file: at the home, or here. */
export function publishing(parts: PublishingParts): Move {
  const { store, home } = parts;
  return async (record, context) => {
    try {
      // From its first moment on, so that nothing of it is swept.
      return await store.making(record.id, () => (home ? uploaded : stored)(record, context, parts));
    } catch (cause) {
      throw asGiven(asTensorwireError(cause, "INTERNAL"), record, parts.exchange);
    }
  };
}

/** The error, so that it names the file as the program knows it, and not where the agent has put it meanwhile. */
function asGiven(
  error: TensorwireError,
  { id, request }: TransferRecord,
  exchange: Exchange,
): TensorwireError {
  const { body, path } = request as unknown as PublishRequest;
  const given = body ? "the body of the request" : quote(path);
  const taken = [takenFile(id), `${takenFile(id)}.safetensors`, `${id}.safetensors`];
  for (const file of taken) error.message = error.message.replaceAll(quote(exchange.own(file)), given);
  return error;
}

/** Takes back what is left of a publication that came to nothing; a file that was given for it is the program's again. */
export function unpublished({ exchange, home }: PublishingParts): Undo {
  return async ({ id, name, request }, error) => {
    const { body, consume, path } = request as unknown as PublishRequest;
    const taken = exchange.own(takenFile(id));
    // It may have had its last name already.
    const given = [taken, ...(consume ? [exchange.own(`${id}.safetensors`)] : [])];
    if (!body) for (const file of given) await exchange.giveBack(file, path);
    await rm(taken, { force: true }).catch(() => {});
    for (const name of [`${id}.safetensors`, `${id}.twire`]) await exchange.discard(exchange.own(name));
    // It may be there whole, and only the home's word be missing: nobody has the reference to free it by. What an earlier transfer
    // of that id has published there is not this one's.
    const another = error.code === "TARGET_EXISTS" || error.peerCode === "TARGET_EXISTS";
    if (home && !another) await home.free(name, id).catch(() => {});
  };
}

/** The file, wherever it is by now: an agent that died may have taken it over already. */
async function input({ path, body }: PublishRequest, id: string, exchange: Exchange): Promise<HandedFile> {
  const stats = await lstat(exchange.own(takenFile(id))).catch(() => undefined);
  if (!stats && !body) return exchange.source(path);
  return takenAs(id, exchange, stats?.size ?? 0);
}

async function uploaded(
  record: TransferRecord,
  context: MoveContext,
  { exchange, home, options, patienceMs }: PublishingParts,
): Promise<Outcome> {
  const { id, name, expires } = record;
  const request = record.request as unknown as PublishRequest;
  const given = await input(request, id, exchange);
  // Moved, it is swept where an agent dies before it can remove it.
  const file = (request.consume ? await moved(given, id, request, exchange) : undefined) ?? given;
  const seconds = String(Math.max(1, Math.ceil((expires - Date.now()) / 1000)));
  const url = home!.urlOf(name, id, { expires: seconds });
  const summary = await patiently(patienceMs, context, (onProgress) =>
    streamModel(file.open(), url, {
      ...{ ...options, ...termsOf(record), retry: false },
      ...{ dial: home!.dial, signal: context.signal, onProgress },
    }),
  );
  // Not before the reference is safe: an agent that dies now has to upload it again, to hear its digest.
  if (request.consume || request.body) context.afterwards(() => unlink(file.path));
  const ref = {
    tensorwire: REFERENCE_FORM,
    name,
    transfer: id,
    ...identity(summary),
    home: home!.label,
  } as const;
  return { ...sizes(summary), ref: { ...ref, expires: Math.ceil(expires / 1000) } };
}

/** Publishes it here: as the file that it is where its codec leaves it so, else encoded. */
async function stored(
  record: TransferRecord,
  { signal, resumed, progress: onProgress }: MoveContext,
  { exchange, store, options }: PublishingParts,
): Promise<Outcome> {
  const { id, name, created, expires } = record;
  const request = record.request as unknown as PublishRequest;
  const encoding = termsOf(record);
  const { windowBytes = DEFAULT_WINDOW_BYTES } = encoding;
  const chunkBytes = resolveChunkBytes(encoding.chunkBytes, windowBytes, DEFAULT_LIMITS.maxChunkBytes);
  // The rate is for the line: within the machine there is none.
  const terms = { ...options, maxBytesPerSecond: undefined, ...encoding, chunkBytes, signal, onProgress };
  const consumed = request.consume || request.body;
  // What an agent that died had published already, and had not said so.
  const known = resumed ? store.get(id) : undefined;
  const asItIs = isAsItIs(encoding);
  if (known) {
    if (consumed && !asItIs)
      await input(request, id, exchange)
        .then(({ path }) => unlink(path))
        .catch(() => {});
    return { ref: store.reference(known), sourceBytes: known.bytes, totalBytes: known.bytes };
  }
  if (store.has(id)) throw takenError(id);
  const target = `${id}.${asItIs ? "safetensors" : "twire"}`;
  const path = exchange.own(target);
  // It had been moved to its last name, and was not published yet.
  if (resumed && consumed && asItIs) await rename(path, exchange.own(takenFile(id))).catch(() => {});
  const given = await input(request, id, exchange);
  let file: TakenFile = given;
  // One of that name that is no model's was made by an agent that died before it could say so.
  await rm(path, { force: true });
  let summary: TransferSummary;
  if (!asItIs) {
    await exchange.checkRoom(0);
    summary = await transferModel(file.open(), artifactSink(path), terms);
  } else if (consumed) {
    file = await takenOver(given, id, request, exchange, signal);
    // Read once, for its digest.
    summary = await transferModel(file.open(), discardSink(), terms);
    await rename(file.path, path);
  } else {
    await exchange.checkRoom(file.bytes);
    summary = await transferModel(file.open(), safetensorsSink(path), terms);
  }
  // Programs get this very file, where they are of this machine.
  await chmod(path, 0o400);
  const { compress, integrity = "xxh64" } = encoding;
  const model = { id, name, file: target, ...identity(summary), chunkBytes, integrity, compress };
  const added = await store.add({ ...model, created, expires });
  // Not before: until now it is the only copy that a later process, or the program, could go on with.
  if (consumed && !(asItIs && file.moved)) await unlink(given.path).catch(() => {});
  return { ...sizes(summary), ref: store.reference(added) };
}

interface TakenFile extends HandedFile {
  /** There is none any more where it was given. */
  readonly moved?: boolean;
}

/** The file among the agent's own: moved there, or, where it cannot be, copied. */
async function takenOver(
  file: HandedFile,
  id: string,
  request: PublishRequest,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<TakenFile> {
  const own = await moved(file, id, request, exchange);
  if (own) return own;
  await exchange.checkRoom(file.bytes);
  const taken = takenAs(id, exchange, file.bytes);
  const draft = `${taken.path}.safetensors`;
  await transferModel(file.open(), safetensorsSink(draft, { overwrite: true, resume: false }), { signal });
  await rename(draft, taken.path);
  return taken;
}

/** The file among the agent's own; undefined where it cannot be moved there: from another file system, or out of another's folder. */
async function moved(
  file: HandedFile,
  id: string,
  { path }: PublishRequest,
  exchange: Exchange,
): Promise<TakenFile | undefined> {
  const taken = { ...takenAs(id, exchange, file.bytes), moved: true };
  if (file.path === taken.path) return taken;
  try {
    await rename(file.path, taken.path);
  } catch (cause) {
    if (isErrno(cause, "EXDEV", "EACCES", "EPERM", "EROFS")) return undefined;
    throw targetError(cause, file.path, "cannot move");
  }
  // What was looked at may have been replaced since.
  if ((await lstat(taken.path)).isFile()) return taken;
  await unlink(taken.path);
  throw new TensorwireError("FORBIDDEN", `${quote(path)} is no plain file`);
}

function takenAs(id: string, exchange: Exchange, bytes: number): HandedFile {
  const path = exchange.own(takenFile(id));
  return { path, bytes, open: () => safetensorsSource(path) };
}

/** Whether a receiver gets the file that it was, bit for bit, and with every codec that there is. */
function isAsItIs({ codec, policy }: Encoding): boolean {
  const name = typeof codec === "string" ? codec : codec?.name;
  return policy === undefined && (name === undefined || name === "none");
}

function identity({ digest, sha256, sourceBytes }: TransferSummary): { digest: string; bytes: number } {
  return { digest: sha256 === undefined ? digest : `sha256:${sha256}`, bytes: sourceBytes };
}

function sizes({ sourceBytes, wireBytes }: TransferSummary): Outcome {
  return { sourceBytes, totalBytes: sourceBytes, wireBytes };
}
