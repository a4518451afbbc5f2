import { setTimeout as sleep } from "node:timers/promises";
import {
  type ErrorCode,
  listen,
  receiveModel,
  type SourceLike,
  type StreamOptions,
  streamModel,
  TensorwireError,
  type TransferOptions,
  type TransferSummary,
} from "@tensorwire/stream";
import { type Arrangement, dialOptions, listenOptions, placeOf, socketPath, urlAt } from "./arrangement.js";
import type { Certificate } from "./certificate.js";
import { FaultyWire } from "./faulty-wire.js";
import type { WireFault } from "./wire-fault.js";

/** One transfer of this process to itself, over a wire. */
export interface Exchange {
  readonly arrangement: Arrangement;
  readonly source: SourceLike;
  readonly target: string;
  readonly sending: StreamOptions;
  readonly receiving: TransferOptions;
  readonly scratch: string;
  readonly certificate: Certificate | undefined;
  readonly fault?: WireFault | undefined;
  /** Longer than this no end may take to learn of a fault. */
  readonly patienceMs: number;
}

/** How an end came out. */
export type Ending =
  | { readonly is: "done"; readonly summary: TransferSummary }
  | {
      readonly is: "failed";
      readonly code: ErrorCode;
      readonly peerCode?: string | undefined;
      readonly message: string;
    }
  /** It waits to be dialled, and nobody came so far as to begin a transfer. */
  | { readonly is: "waiting" }
  /** It had begun, and did not end within the patience. */
  | { readonly is: "hung" }
  /** What no end may come out with. */
  | { readonly is: "defect"; readonly message: string };

export interface Outcome {
  readonly sender: Ending;
  readonly receiver: Ending;
  readonly wire: FaultyWire;
  /** From the first word until every end that had begun had ended. */
  readonly milliseconds: number;
}

// A path of a socket each: one that is in the way is another case's defect.
let exchanges = 0;

export async function exchange(of: Exchange): Promise<Outcome> {
  const { arrangement, scratch, certificate, fault, sending, receiving, patienceMs } = of;
  const { channel, listens } = arrangement;
  const name = String(exchanges++);
  const listener = await listen(listenOptions(channel, socketPath(scratch, name), certificate));
  const path = channel === "unix" ? socketPath(scratch, `${name}w`) : undefined;
  const wire = await FaultyWire.open({ to: placeOf(listener.url), path, fault, keep: true });
  const waits = new AbortController();
  const dials = new AbortController();
  const dial = dialOptions(channel, certificate);
  const url = urlAt(channel, wire.place);
  const started = performance.now();
  const push = listens === "receiver";
  const senderSignal = push ? dials.signal : waits.signal;
  const receiverSignal = push ? waits.signal : dials.signal;
  const received = receiveModel(push ? listener : url, {
    ...receiving,
    ...(!push && dial),
    to: of.target,
    signal: receiverSignal,
  });
  const sent = streamModel(of.source, push ? url : listener, {
    ...sending,
    ...(push && dial),
    signal: senderSignal,
  });
  let last = started;
  const noting = (end: Ending): Ending => {
    if (end.is !== "waiting") last = performance.now();
    return end;
  };
  const sender = ending(sent, senderSignal).then(noting);
  const receiver = ending(received.done, receiverSignal).then(noting);
  const [dialer, waiter] = push ? [sender, receiver] : [receiver, sender];
  try {
    await patiently(dialer, dials, patienceMs);
    // Its own words are out; those that wait learn by the end of the connection, or not at all.
    await Promise.race([waiter, allGone(wire), sleep(patienceMs / 4)]);
    const begun = await Promise.race([hasBegun(received.manifest, push), sleep(FAREWELL_MS, false)]);
    if (begun || (await dialer).is === "done") await patiently(waiter, waits, patienceMs);
    else await Promise.race([waiter, sleep(FAREWELL_MS)]).then(() => waits.abort(WAITING));
    return { sender: await sender, receiver: await receiver, wire, milliseconds: last - started };
  } finally {
    await wire.close();
    await listener.close();
  }
}

/** How long an end that was never dialled is given to say otherwise. */
const FAREWELL_MS = 300;
const WAITING = "nobody came";
const HUNG = "it hung";

/** Whether a receiver that waited has taken a transfer on. */
function hasBegun(manifest: Promise<unknown>, receiverWaits: boolean): Promise<boolean> {
  if (!receiverWaits) return Promise.resolve(false);
  return manifest.then(
    () => true,
    () => false,
  );
}

async function allGone(wire: FaultyWire): Promise<void> {
  while (wire.connections > 0 && !wire.closed) await sleep(10);
}

async function patiently(end: Promise<Ending>, abort: AbortController, ms: number): Promise<void> {
  const over = new AbortController();
  const late = sleep(ms, "late", { signal: over.signal }).catch(() => "over");
  if ((await Promise.race([end, late])) === "late") abort.abort(HUNG);
  over.abort();
  await end;
}

async function ending(transfer: Promise<TransferSummary>, signal: AbortSignal): Promise<Ending> {
  try {
    return { is: "done", summary: await transfer };
  } catch (error) {
    if (signal.aborted) return { is: signal.reason === HUNG ? "hung" : "waiting" };
    if (error instanceof TensorwireError && error.code !== "INTERNAL") {
      return { is: "failed", code: error.code, peerCode: error.peerCode, message: error.message };
    }
    return { is: "defect", message: String((error as Error)?.stack ?? error) };
  }
}
