import { chmod } from "node:fs/promises";
import { asTensorwireError, type Manifest, TensorwireError } from "@tensorwire/core";
import type { TransferOptions } from "../options.js";
import { receiveModel } from "../receive-model.js";
import type { ReceiveOptions } from "../receive-options.js";
import { sourceBytes } from "../server/served-transfer.js";
import type { TransferSummary } from "../session/summary.js";
import { openSink } from "../sink/open.js";
import type { Sink } from "../sink/sink.js";
import { transferModel } from "../transfer-model.js";
import type { Move, MoveContext, Outcome } from "./agent-transfer.js";
import type { Exchange } from "./exchange.js";
import type { Home } from "./home.js";
import type { ModelStore } from "./model-store.js";
import { patiently } from "./patience.js";
import { goneError } from "./reference.js";
import type { FetchRequest } from "./requests.js";
import type { TransferRecord } from "./transfer-record.js";

export interface FetchingParts {
  readonly exchange: Exchange;
  readonly store: ModelStore;
  readonly home: Home | undefined;
  readonly options: TransferOptions;
  readonly patienceMs: number;
}

/** Fetches a model into a file: from the home, or from what is published here. */
export function fetching(parts: FetchingParts): Move {
  return async (record, context) => {
    const { ref } = record.request as unknown as FetchRequest;
    try {
      return await (parts.home ? received : unpacked)(record, context, parts);
    } catch (cause) {
      const error = asTensorwireError(cause, "INTERNAL");
      throw error.code === "NOT_FOUND" || error.peerCode === "NOT_FOUND" ? goneError(ref, error) : error;
    }
  };
}

/** Takes back what is left of a fetch that came to nothing. */
export function unfetched({ exchange }: FetchingParts): (record: TransferRecord) => Promise<void> {
  return async ({ id, request }) => {
    const { to } = request as unknown as FetchRequest;
    if (to === undefined) return exchange.discard(exchange.fetched(id));
    const place = await exchange.target(to).catch(() => undefined);
    if (place) await exchange.discardPart(place.path);
  };
}

async function received(
  record: TransferRecord,
  context: MoveContext,
  { exchange, home, options, patienceMs }: FetchingParts,
): Promise<Outcome> {
  const { ref, outputDtype } = record.request as unknown as FetchRequest;
  const url = home!.urlOf(ref.name, ref.transfer);
  const place = await placeOf(record, context, exchange);
  const summary = await patiently(patienceMs, context, (onProgress) => {
    const { dial } = home!;
    const terms: ReceiveOptions = {
      ...options,
      retry: false,
      outputDtype,
      expectedDigest: ref.digest,
      to: place.sink,
    };
    return receiveModel(url, { ...terms, dial, signal: context.signal, onProgress }).done;
  });
  return place.end(summary);
}

async function unpacked(
  record: TransferRecord,
  context: MoveContext,
  { exchange, store, options }: FetchingParts,
): Promise<Outcome> {
  const { ref, to, outputDtype } = record.request as unknown as FetchRequest;
  const model = store.find(ref.name, ref.transfer);
  if (model.digest !== ref.digest) {
    const message = `the model of ${ref.transfer} has the digest ${model.digest}, and the reference says ${ref.digest}: it is another model`;
    throw new TensorwireError("DIGEST_MISMATCH", message, { retryable: false });
  }
  if (to === undefined && outputDtype === undefined && model.file.endsWith(".safetensors")) {
    const { bytes, id: held } = model;
    return { path: store.pathOf(model), held, sourceBytes: bytes, totalBytes: bytes };
  }
  const place = await placeOf(record, context, exchange);
  const { signal, progress: onProgress } = context;
  // The rate is for the line: within the machine there is none.
  const terms = { ...options, maxBytesPerSecond: undefined, outputDtype, signal, onProgress };
  return place.end(await store.reading(model, (source) => transferModel(source, place.sink, terms)));
}

/** Where a fetched model goes, and what is to be told when it is there. */
async function placeOf(
  record: TransferRecord,
  { resumed }: MoveContext,
  exchange: Exchange,
): Promise<{ sink(manifest: Manifest): Promise<Sink>; end(summary: TransferSummary): Promise<Outcome> }> {
  const { to, overwrite = false } = record.request as unknown as FetchRequest;
  const place = to === undefined ? undefined : await exchange.target(to);
  const path = place?.path ?? exchange.fetched(record.id);
  return {
    sink: async (manifest) => {
      await exchange.checkRoom(sourceBytes(manifest));
      // An agent that died may have had it whole already: there was none when it was asked for.
      const options = { overwrite: overwrite || resumed, parts: {} };
      if (place) return place.folder.sink(place.name, manifest, options);
      return openSink(path, manifest, { overwrite: true });
    },
    end: async ({ sourceBytes: bytes, wireBytes }) => {
      if (!place) await chmod(path, 0o400);
      return { path, owned: !place, sourceBytes: bytes, totalBytes: bytes, wireBytes };
    },
  };
}
