import { type Answer, type ErrorCode, TensorwireError } from "@tensorwire/core";
import { onAbort } from "./abort-listener.js";
import type { Addon, JobCallback } from "./addon.js";

/**
 * Makes one native call: here, or queued until its turn or until `signal` aborts.
 * @param views whose memory the call touches.
 * @param take makes the answer of the call's result, at once.
 * @throws TensorwireError what the addon refuses.
 */
export function runNative<Result, T>(
  addon: Addon,
  queue: boolean,
  views: readonly ArrayBufferView[],
  signal: AbortSignal | undefined,
  take: (result: Result) => T,
  call: (callback?: JobCallback<Result>) => Result | number,
): Answer<T> {
  for (const { buffer } of views) refuseResizable(buffer);
  if (signal?.aborted) throw abortedError(signal);
  if (!queue) return take(checked(() => call() as Result));
  return new Promise((resolve, reject) => {
    const job = checked(() =>
      call((result) => {
        forget?.();
        // A job that had begun was let finish: its buffers are free only now.
        if (result === undefined || signal?.aborted) {
          reject(abortedError(signal));
          return;
        }
        // What is thrown in here would be nobody's.
        try {
          resolve(take(result));
        } catch (error) {
          reject(error);
        }
      }),
    ) as number;
    const forget = signal && onAbort(signal, () => addon.cancel(job));
  });
}

/** A buffer that shrinks while a thread writes to it takes the process down. */
function refuseResizable(buffer: ArrayBufferLike & { readonly resizable?: boolean }): void {
  if (buffer.resizable === true) {
    throw new TensorwireError("INVALID_ARGUMENT", "the buffers of a native job may not be resizable");
  }
}

function abortedError(signal: AbortSignal | undefined): TensorwireError {
  return new TensorwireError("ABORTED", "the job was cancelled", { cause: signal?.reason });
}

/** Runs `call`, whose errors carry a code of ours. */
export function checked<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { code, message } = error as Error & { code?: ErrorCode };
    throw new TensorwireError(code ?? "INTERNAL", message, { cause: error });
  }
}
