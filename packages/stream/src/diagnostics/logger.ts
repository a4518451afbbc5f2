import type { TensorwireError } from "@tensorwire/core";
import { listenTo, type ServerRefuseMessage } from "./events.js";
import { redacted } from "./redaction.js";

type Log = (details: object, message: string) => void;

/** Where logs go: pino, `console`, and whatever else takes an object and a message. */
export interface Logger {
  /** What is of interest to who looks for a fault. */
  readonly debug: Log;
  /** What went as it should. */
  readonly info: Log;
  /** What is gone on after. */
  readonly warn: Log;
  /** What ended a transfer. */
  readonly error: Log;
}

/** Who logs where: a transfer, or a server. One that is not here is silent. */
const loggers = new Map<object, Logger>();
let stopListening: (() => void) | undefined;

/** Logs what is told of `subject`, a transfer or a server, and of nothing else. @returns What ends that. */
export function logTo(subject: object, logger: Logger | undefined): () => void {
  if (!logger) return () => {};
  loggers.set(subject, logger);
  stopListening ??= listen();
  return () => {
    loggers.delete(subject);
    if (loggers.size > 0) return;
    stopListening?.();
    stopListening = undefined;
  };
}

// One set of subscriptions for all loggers: with one each, every transfer would be told to every logger. None of chunks:
// they would be most of a log.
function listen(): () => void {
  return listenTo({
    "tensorwire:transfer:start": ({ transfer }) => {
      const { id, role } = transfer;
      loggers.get(transfer)?.debug({ transfer: id, role }, "the transfer begins");
    },
    "tensorwire:transfer:resume": ({ transfer, sourceBytes }) => {
      const details = { transfer: transfer.id, sourceBytes };
      loggers.get(transfer)?.info(details, "the transfer goes on from what is there");
    },
    "tensorwire:transfer:checkpoint": ({ transfer, durableBytes }) => {
      const details = { transfer: transfer.id, durableBytes };
      loggers.get(transfer)?.debug(details, "what has arrived is durable");
    },
    "tensorwire:transfer:retry": ({ transfer, attempt, delayMs, error }) => {
      const details = { transfer: transfer.id, attempt, delayMs, ...told(error) };
      loggers.get(transfer)?.warn(details, "the transfer was interrupted, and will be tried again");
    },
    "tensorwire:transfer:end": ({ transfer, error, summary, seconds }) => {
      const logger = loggers.get(transfer);
      const { id, role, channel, peer } = transfer;
      const details = { transfer: id, role, channel, peer, seconds };
      if (error) return logger?.error({ ...details, ...told(error) }, "the transfer failed");
      const { sourceBytes, wireBytes, chunks, resumedBytes, digest, confirmed } = summary!;
      const figures = { sourceBytes, wireBytes, chunks, resumedBytes, digest, confirmed };
      logger?.info({ ...details, ...figures }, "the transfer is done");
    },
    "tensorwire:server:refuse": ({ server, code, reason, peer }: ServerRefuseMessage) => {
      loggers.get(server)?.warn({ code, reason: redacted(reason), peer }, "a peer was turned away");
    },
  });
}

// Not the error itself: its cause may hold a request, with headers and all.
function told({ code, message, retryable, peerCode }: TensorwireError): object {
  return { code, error: redacted(message), retryable, ...(peerCode !== undefined && { peerCode }) };
}
