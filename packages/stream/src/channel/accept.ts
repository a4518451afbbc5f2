import { type Channel, TensorwireError } from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";
import type { Connection } from "../session/connection.js";
import { deferred } from "../session/deferred.js";
import { abortError } from "../session/transfer.js";
import { connect, type OpenOptions, type Role } from "./connect.js";
import type { Listener } from "./listen.js";

/**
 * The first of a listener's peers that means business: one that has said HELLO, where we send; one that has announced
 * a model, where we receive. Others come and go without harm, and do not hold it up.
 */
export async function acceptConnection(
  listener: Listener,
  role: Role,
  { signal, tensors }: OpenOptions,
  settings: ResolvedOptions,
): Promise<Connection> {
  const candidates = new Set<Connection>();
  const chosen = deferred<Connection>();
  const onAbort = (): void => chosen.reject(abortError(signal!.reason));
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const consider = (channel: Channel): void => {
    const connection = connect(channel, role, settings, { tensors });
    candidates.add(connection);
    const ready: Promise<unknown> = role === "send" ? connection.hello : connection.announced;
    ready.then(
      () => chosen.resolve(connection),
      (error) => {
        candidates.delete(connection);
        void connection.close(error);
      },
    );
  };
  const stopped = new AbortController();
  listener.each(consider, stopped.signal).then(
    () =>
      chosen.reject(new TensorwireError("CHANNEL_CLOSED", "the listener was closed before a transfer began")),
    (error) => chosen.reject(error),
  );
  let winner: Connection | undefined;
  try {
    winner = await chosen.promise;
    return winner;
  } finally {
    stopped.abort();
    signal?.removeEventListener("abort", onAbort);
    candidates.delete(winner!);
    for (const candidate of signal?.aborted ? [] : candidates) void candidate.close(busy());
    // Of a call that was cancelled its peers hear why; nobody waits long for one that does not listen.
    if (signal?.aborted)
      await Promise.all([...candidates].map((each) => each.refuse(abortError(signal.reason))));
  }
}

const busy = (): TensorwireError =>
  new TensorwireError("CHANNEL_CLOSED", "another peer's transfer was taken");
