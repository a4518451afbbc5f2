import type { TensorwireError } from "@tensorwire/core";
import type { Refusal } from "../server/model-server.js";
import type { ServedAnswer, ServedTransfer } from "../server/visits.js";
import type { TransferRecord } from "./transfer-record.js";

/** What an agent tells its owner, as it happens. */
export type AgentEvent =
  /** A transfer that a program has asked for is done, has failed, or was cancelled; how long that took in this process. */
  | { readonly event: "over"; readonly record: TransferRecord; readonly seconds: number }
  /** It goes on trying: told once for each cause, until it moves again. */
  | { readonly event: "interrupted"; readonly record: TransferRecord; readonly error: TensorwireError }
  /** Another agent, or a program of this machine, was turned away. */
  | ({ readonly event: "refused" } & Refusal)
  /** Another agent uploads a model here, or fetches one. */
  | ({ readonly event: "served" } & ServedPath<ServedTransfer>)
  /** The same of who fetches by HTTP alone. */
  | ({ readonly event: "answered" } & ServedPath<ServedAnswer>);

/** The model's name and the transfer that has published it: apart, where the path of a home's URL has both. */
type ServedPath<Served> = Served & { readonly transfer: string | undefined };

/** Never throws. */
export type TellAgent = (event: AgentEvent) => void;

/** Whoever listens may throw: that is not the agent's affair. */
export function tellLater(listener: ((event: AgentEvent) => void) | undefined): TellAgent {
  if (!listener) return () => {};
  return (event) => process.nextTick(() => listener(event));
}
