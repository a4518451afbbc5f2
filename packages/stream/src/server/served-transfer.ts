import {
  asTensorwireError,
  byteLength,
  elementCount,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { connect } from "../channel/connect.js";
import type { Visitor } from "../door/gate.js";
import type { ResolvedOptions, TransferOptions } from "../options.js";
import { receiveModel } from "../receive-model.js";
import type { ReceiveOptions } from "../receive-options.js";
import { faultOf } from "../session/fault.js";
import { withinGrace } from "../session/grace.js";
import type { TransferSummary } from "../session/summary.js";
import type { Sink } from "../sink/sink.js";
import type { SourceLike } from "../source/open.js";
import { streamModel } from "../stream-model.js";
import type { Publication } from "./publications.js";
import { askOwner, type OnReceive, type ServedPeer } from "./reception.js";
import type { Seat } from "./seats.js";
import type { UploadFolder } from "./upload-folder.js";

/** How a received model is written. */
export type UploadOptions = Pick<
  ReceiveOptions,
  "overwrite" | "resume" | "parts" | "outputDtype" | "integrity"
>;

/** What all transfers of a server have in common. */
export interface TransferTerms {
  readonly settings: ResolvedOptions;
  readonly options: TransferOptions;
  readonly receive: UploadOptions;
  readonly onReceive: OnReceive | undefined;
  readonly folder: UploadFolder | undefined;
  /** Takes what a peer need not know out of the words that it is told. */
  readonly discreet: (message: string) => string;
}

/** One transfer of a server: which model, with whom. */
export interface TransferOfPeer {
  readonly visitor: Visitor;
  readonly name: string;
  readonly peer: ServedPeer;
  readonly seat: Seat;
}

/** Sends a published model to a peer that asked for it. */
export function sendPublication(
  transfer: TransferOfPeer,
  publication: Publication,
  terms: TransferTerms,
): Promise<TransferSummary> {
  return onConnection(transfer, "send", terms, async (connection) => {
    const source = await opened(publication, transfer.name);
    return streamModel(source, connection, { ...terms.options, ...publication.options });
  });
}

/** Receives a model that a peer sends. @param options What is another than for the rest of the server. */
export function receiveUpload(
  transfer: TransferOfPeer,
  terms: TransferTerms,
  options: ReceiveOptions = {
    ...terms.receive,
    to: (manifest: Manifest): Promise<Sink> => sinkFor(transfer, manifest, terms),
  },
): Promise<TransferSummary> {
  return onConnection(transfer, "receive", terms, (connection) => {
    return receiveModel(connection, { ...terms.options, ...options }).done;
  });
}

async function onConnection(
  { visitor, name }: TransferOfPeer,
  role: "send" | "receive",
  { settings, discreet }: TransferTerms,
  run: (connection: ReturnType<typeof connect>) => Promise<TransferSummary>,
): Promise<TransferSummary> {
  const served = { name, principal: visitor.principal?.name };
  const connection = connect(visitor.channel, role, settings, { discreet, served });
  try {
    return await run(connection);
  } catch (cause) {
    const error = asTensorwireError(cause, "INTERNAL");
    // Of a transfer that failed before it had begun nobody has told the peer.
    await withinGrace(connection.sendFault("ERROR", 0, 0, faultOf(error)));
    await connection.close(error);
    throw error;
  }
}

async function opened(publication: Publication, name: string): Promise<SourceLike> {
  try {
    return await publication.open();
  } catch (cause) {
    if (cause instanceof TensorwireError) throw cause;
    // What went wrong there is the owner's to know.
    throw new TensorwireError("SOURCE_READ", `${quote(name)} could not be opened`, { cause });
  }
}

async function sinkFor(
  { name, peer, seat, visitor }: TransferOfPeer,
  manifest: Manifest,
  { onReceive, folder, receive }: TransferTerms,
): Promise<Sink> {
  seat.load(sourceBytes(manifest));
  const origin = { name, software: visitor.hello.software };
  const target = onReceive ? await askOwner(onReceive, origin, manifest, peer) : name;
  if (typeof target !== "string") return target;
  if (folder) return folder.sink(target, manifest, receive);
  const message = `onReceive gives the path ${quote(target)}, and the server has no upload folder (uploads)`;
  throw new TensorwireError("FORBIDDEN", `${quote(name)} could not be taken`, {
    cause: new TensorwireError("INVALID_ARGUMENT", message),
  });
}

export function sourceBytes({ tensors }: Manifest): number {
  return tensors.reduce((bytes, { dtype, shape }) => bytes + byteLength(dtype, elementCount(shape)), 0);
}
