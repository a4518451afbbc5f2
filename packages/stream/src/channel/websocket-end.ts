import { quote, TensorwireError } from "@tensorwire/core";
import { deferred } from "../session/deferred.js";
import { withinGrace } from "../session/grace.js";

/** Why a WebSocket takes nothing any more, for those who still send. */
export class WebSocketEnd {
  #reason: Error | undefined;
  readonly #known = deferred<void>();

  /** The first reason stays. */
  is(reason: Error): void {
    this.#reason ??= reason;
    this.#known.resolve();
  }

  /** The peer's code and words are known only when the socket has closed, some time after it has stopped to take anything. */
  async why(): Promise<Error> {
    if (!this.#reason) await withinGrace(this.#known.promise);
    return this.#reason ?? new TensorwireError("CHANNEL_CLOSED", "the WebSocket is not open");
  }
}

/** What the end of a WebSocket is to who would still send. */
export function closedError(code: number, reason: string): TensorwireError {
  const advice =
    code === TOO_LARGE ? ": the maxPayload of the peer's WebSocket has to be 256 KiB at least" : "";
  const words = reason && ` ${quote(reason)}`;
  return new TensorwireError("CHANNEL_CLOSED", `the WebSocket closed with ${code}${words}${advice}`);
}

/** What the end of a WebSocket is to a channel: undefined where it is an orderly one. */
export function closeError(code: number, reason: string): TensorwireError | undefined {
  return ORDERLY.includes(code) ? undefined : closedError(code, reason);
}

// RFC 6455, 7.4.1.
const ORDERLY = [1000, 1001, 1005];
const TOO_LARGE = 1009;
