import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { redacted } from "../diagnostics/redaction.js";
import type { Refusal } from "../server/model-server.js";
import type { ServedAnswer, ServedTransfer } from "../server/visits.js";
import type { Announcer } from "./announcer.js";
import { errorJson, summaryJson } from "./report.js";
import { formatRate, formatSize } from "./sizes.js";

/** A peer was turned away. What it is not told is said here: that the list of tokens cannot be read, say. */
export function tellRefusal({ error, peer }: Refusal, announcer: Announcer): void {
  announcer.fault(
    { event: "refused", peer: peer.address, ...faultJson(error) },
    `refused ${peer.address}: ${faultText(error)}`,
  );
}

export function tellAnswer({ name, peer, status, bytes }: ServedAnswer, announcer: Announcer): void {
  const principal = peer.principal?.name ?? null;
  const what = { name, peer: peer.address, principal, status, bytes };
  announcer.say(
    { event: "answer", ...what },
    `sent ${formatSize(bytes)} of ${name} to ${principal ?? peer.address}`,
  );
}

/** @param more Of the model, besides its name. */
export function tellServed(
  { id, direction, name, peer, done }: ServedTransfer,
  announcer: Announcer,
  more: { readonly transfer?: string | undefined } = {},
): void {
  const principal = peer.principal?.name ?? null;
  const whose = principal === null ? peer.address : `${principal} (${peer.address})`;
  const model = more.transfer === undefined ? name : `${name} (transfer ${more.transfer})`;
  const what = { id, direction, name, ...more, peer: peer.address, principal };
  done.then(
    (summary) => {
      const { sourceBytes, seconds, wireBytes } = summary;
      const size = `${formatSize(sourceBytes)} at ${formatRate(sourceBytes, seconds)}`;
      const deed = direction === "fetch" ? `sent ${model} to ${whose}` : `received ${model} from ${whose}`;
      announcer.say(
        { event: "done", ...what, ...JSON.parse(summaryJson(summary)) },
        `${deed}: ${size}, ${formatSize(wireBytes)} on the wire`,
      );
    },
    (cause) => {
      const error = asTensorwireError(cause, "INTERNAL");
      const deed = direction === "fetch" ? `${model} to ${whose}` : `${model} from ${whose}`;
      announcer.fault({ event: "failed", ...what, ...faultJson(error) }, `${deed}: ${faultText(error)}`);
    },
  );
}

/** Code and words, without what may be a credential. */
export function faultText(error: TensorwireError): string {
  return `${error.code}: ${words(error)}`;
}

export function faultJson(error: TensorwireError): object {
  const told = JSON.parse(errorJson(error)) as { readonly error: object };
  return { error: { ...told.error, message: words(error) } };
}

/** A cause is here where the peer is told less than the owner is to know. Only ours: others hold requests, with headers and all. */
function words({ message, cause }: TensorwireError): string {
  const known = cause instanceof TensorwireError && !message.includes(cause.message);
  return redacted(known ? `${message}: ${cause.message}` : message);
}
