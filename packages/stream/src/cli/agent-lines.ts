import type { AgentEvent } from "../agent/agent-event.js";
import { errorOf, type TransferKind, type TransferRecord, transferJson } from "../agent/transfer-record.js";
import type { Announcer } from "./announcer.js";
import { faultJson, faultText, tellAnswer, tellRefusal, tellServed } from "./served-lines.js";
import { formatRate, formatSeconds, formatSize } from "./sizes.js";

const DEEDS: Readonly<Record<TransferKind, string>> = {
  publish: "published",
  fetch: "fetched",
  send: "sent",
};

/**
 * What an agent says of an event.
 * @param hasHome Its models are elsewhere: what it publishes and fetches has been on the wire.
 */
export function tellOfAgent(event: AgentEvent, hasHome: boolean, announcer: Announcer): void {
  switch (event.event) {
    case "over":
      return tellOver(event.record, event.seconds, hasHome, announcer);
    case "interrupted": {
      const { record, error } = event;
      const text = `${called(record)} is interrupted, and goes on trying: ${faultText(error)}`;
      return announcer.fault({ event: "interrupted", ...transferJson(record), ...faultJson(error) }, text);
    }
    case "refused":
      return tellRefusal(event, announcer);
    case "served":
      return tellServed(event, announcer, { transfer: event.transfer });
    case "answered":
      return tellAnswer(event, announcer);
  }
}

function tellOver(record: TransferRecord, seconds: number, hasHome: boolean, announcer: Announcer): void {
  const { kind, sourceBytes, wireBytes, error } = record;
  if (error) {
    const text = `${called(record)} was not ${DEEDS[kind]}: ${faultText(errorOf(error))}`;
    return announcer.fault(
      { event: "failed", ...transferJson(record), seconds, ...faultJson(errorOf(error)) },
      text,
    );
  }
  const rate = `${formatSize(sourceBytes)} in ${formatSeconds(seconds)} (${formatRate(sourceBytes, seconds)})`;
  const place = hasHome || kind === "send" ? "on the wire" : "encoded";
  const wire = wireBytes > 0 ? `, ${formatSize(wireBytes)} ${place}` : "";
  announcer.say(
    { event: "done", ...transferJson(record), seconds },
    `${DEEDS[kind]} ${called(record)}: ${rate}${wire}`,
  );
}

function called({ id, kind, name, request }: TransferRecord): string {
  const { path } = request as { readonly path?: string };
  return kind === "send" ? `${path} to ${name} (transfer ${id})` : `${name} (transfer ${id})`;
}
