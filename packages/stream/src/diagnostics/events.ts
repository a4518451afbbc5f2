import { type Channel, channel } from "node:diagnostics_channel";
import type { ErrorCode, Manifest, TensorwireError } from "@tensorwire/core";
import type { TransferSummary } from "../session/summary.js";

/** Bytes of a transfer that wait somewhere, at this moment. */
export interface WaitingBytes {
  /** Source bytes that were sent, and that the receiver has not finished with, as far as the sender knows. */
  readonly inFlightBytes: number;
  /** Source bytes that this end holds: read and not yet sent, or arrived and not yet with the sink. */
  readonly queuedBytes: number;
}

/** How far a transfer has come. Source bytes are those of the model, decoded. */
export interface TransferPosition {
  /** Of the whole model; 0 until it is known. */
  readonly totalBytes: number;
  /** Sent, or received, so far, and those that were there before. */
  readonly sourceBytes: number;
  /** Those that an earlier call had brought already. */
  readonly resumedBytes: number;
  /** On the wire so far, in all attempts. */
  readonly wireBytes: number;
}

/** Of a transfer that a server makes with a peer: what the peer came for. */
export interface ServedModel {
  /** The model's, as the peer asked for it: checked to be a name, and a stranger's word. */
  readonly name: string;
  /** Whose credential the peer has shown. */
  readonly principal: string | undefined;
}

/** One call, however many attempts it takes: the same object in every message about it. What it says grows with it. */
export interface ObservedTransfer extends WaitingBytes {
  /** Of this process, from 1. */
  readonly id: number;
  /** What this end does. */
  readonly role: "send" | "receive";
  /** The kind of channel that it goes over, once there is one: `websocket`, `tcp`, `file`, … */
  readonly channel: string | undefined;
  /** The other end, as far as the channel knows it. An address, and a stranger's word: for logs, never for a label. */
  readonly peer: string | undefined;
  /** What a server makes it for; `undefined` of the caller's own. */
  readonly served: ServedModel | undefined;
  /** How far it is at this moment; `undefined` before anything is known of it. */
  readonly position: TransferPosition | undefined;
  /** What is sent, once it is known. */
  readonly manifest: Manifest | undefined;
  /** Of this process' `performance.now()`. */
  readonly startedAt: number;
}

/** One connection: the same object when it opens and when it closes. */
export interface ObservedConnection {
  /** Of this process, from 1. */
  readonly id: number;
  /** The kind of its channel. */
  readonly channel: string;
  /** Which way it carries bytes. */
  readonly direction: "both" | "send" | "receive";
  /** Who is at the other end, as far as it is known. */
  readonly peer: string | undefined;
}

/** A connection is there. */
export interface ConnectionOpenMessage {
  /** The same object until it closes. */
  readonly connection: ObservedConnection;
}

/** A connection is over. */
export interface ConnectionCloseMessage extends ConnectionOpenMessage {
  /** Why: `CHANNEL_CLOSED` also where the peer was done first; `undefined` where this side was. */
  readonly error: TensorwireError | undefined;
  /** How long there was one. */
  readonly seconds: number;
}

/** A call has begun. */
export interface TransferStartMessage {
  /** The same object in all messages of the call. */
  readonly transfer: ObservedTransfer;
}

/** A chunk was sent, or verified and decoded. Its data is in no message. */
export interface TransferChunkMessage extends TransferStartMessage {
  /** The tensor's place in the manifest, and the chunk's place in the plan. */
  readonly tensor: number;
  /** The chunk's place in the plan. */
  readonly ordinal: number;
  /** Its bytes before encoding. */
  readonly sourceBytes: number;
  /** As it travelled, packed or not. */
  readonly wireBytes: number;
}

/** What has arrived so far is durable: no interruption takes it back. */
export interface TransferCheckpointMessage extends TransferStartMessage {
  /** Source bytes of the model that are durable at the receiver. */
  readonly durableBytes: number;
}

/** An attempt goes on from what an earlier one left. */
export interface TransferResumeMessage extends TransferStartMessage {
  /** So much of the model does not travel again. */
  readonly sourceBytes: number;
}

/** An attempt was interrupted, and another one will be made. */
export interface TransferRetryMessage extends TransferStartMessage {
  /** Which attempt in a row without progress the next one is, from 1. */
  readonly attempt: number;
  /** How long it waits before the next attempt. */
  readonly delayMs: number;
  /** What ended the one before. */
  readonly error: TensorwireError;
}

/** A call is over. */
export interface TransferEndMessage extends TransferStartMessage {
  /** What this end did. */
  readonly role: "send" | "receive";
  /** Why it failed; undefined where it did not. */
  readonly error: TensorwireError | undefined;
  /** What came of it; `undefined` where it failed. */
  readonly summary: TransferSummary | undefined;
  /** How long it took. */
  readonly seconds: number;
  /** Pooled buffers that were not given back: anything but 0 is a defect. */
  readonly loans: number;
}

/** A server has turned a peer away. */
export interface ServerRefuseMessage {
  /** Whose server it is, for subscribers that look after one of several. */
  readonly server: object;
  /** Why, as the peer hears it. */
  readonly code: ErrorCode;
  /** Why, without what the peer showed. */
  readonly reason: string;
  /** Whom, as far as it is known. */
  readonly peer: string | undefined;
}

/** Every event with its message. Names are a contract: they never change their meaning. */
export interface Events {
  /** A channel was opened. */
  "tensorwire:connection:open": ConnectionOpenMessage;
  /** A channel was closed. */
  "tensorwire:connection:close": ConnectionCloseMessage;
  /** A call has begun. */
  "tensorwire:transfer:start": TransferStartMessage;
  /** A chunk was sent, or has arrived and is written. */
  "tensorwire:transfer:chunk": TransferChunkMessage;
  /** A sink has made durable what it has. */
  "tensorwire:transfer:checkpoint": TransferCheckpointMessage;
  /** Chunks are there from an earlier attempt. */
  "tensorwire:transfer:resume": TransferResumeMessage;
  /** An attempt has failed, and another one follows. */
  "tensorwire:transfer:retry": TransferRetryMessage;
  /** The call is over, either way. */
  "tensorwire:transfer:end": TransferEndMessage;
  /** A server has turned a peer away. */
  "tensorwire:server:refuse": ServerRefuseMessage;
}

/** The name of an event's channel. */
export type EventName = keyof Events;

const CHANNELS: Record<EventName, Channel> = {
  "tensorwire:connection:open": channel("tensorwire:connection:open"),
  "tensorwire:connection:close": channel("tensorwire:connection:close"),
  "tensorwire:transfer:start": channel("tensorwire:transfer:start"),
  "tensorwire:transfer:chunk": channel("tensorwire:transfer:chunk"),
  "tensorwire:transfer:checkpoint": channel("tensorwire:transfer:checkpoint"),
  "tensorwire:transfer:resume": channel("tensorwire:transfer:resume"),
  "tensorwire:transfer:retry": channel("tensorwire:transfer:retry"),
  "tensorwire:transfer:end": channel("tensorwire:transfer:end"),
  "tensorwire:server:refuse": channel("tensorwire:server:refuse"),
};

export const EVENT_NAMES = Object.keys(CHANNELS) as EventName[];

/** Publishes, where anybody listens: what nobody hears is not even made. */
export function publish<Name extends EventName>(name: Name, message: () => Events[Name]): void {
  const events = CHANNELS[name];
  if (events.hasSubscribers) events.publish(message());
}

/** Listens to the events that it has a listener for. @returns What ends that. */
export function listenTo(
  listeners: { readonly [Name in EventName]?: (message: Events[Name]) => void },
): () => void {
  const subscriptions = EVENT_NAMES.flatMap((name) => {
    const listener = listeners[name] as ((message: unknown) => void) | undefined;
    return listener ? [{ events: CHANNELS[name], onMessage: guarded(listener) }] : [];
  });
  for (const { events, onMessage } of subscriptions) events.subscribe(onMessage);
  return () => {
    for (const { events, onMessage } of subscriptions) events.unsubscribe(onMessage);
  };
}

// What a subscriber throws, Node throws on as an uncaught exception: whoever only watches must not end what he watches. One
// that fails for every chunk says so once.
function guarded(listener: (message: unknown) => void): (message: unknown) => void {
  let failed = false;
  return (message) => {
    try {
      listener(message);
    } catch (error) {
      if (failed) return;
      failed = true;
      process.emitWarning(`what watches transfers failed: ${String(error)}`, { code: "TENSORWIRE_WATCHER" });
    }
  };
}
