import type { Manifest } from "@tensorwire/core";
import { type ObservedTransfer, publish } from "../src/diagnostics/events.js";
import type { Snapshot } from "../src/dashboard/snapshot.js";
import type { TransferSummary } from "../src/index.js";

let transfers = 1_000_000;

/** A transfer of which this process says that it is under way. */
export function observed(changes: Partial<ObservedTransfer> = {}): ObservedTransfer {
  return {
    id: ++transfers,
    role: "send",
    channel: "websocket",
    peer: "192.0.2.7:4711",
    served: { name: "llama", principal: "site-1" },
    position: { totalBytes: 1000, sourceBytes: 400, resumedBytes: 0, wireBytes: 100 },
    manifest: undefined as Manifest | undefined,
    startedAt: performance.now(),
    inFlightBytes: 0,
    queuedBytes: 0,
    ...changes,
  };
}

export function begin(transfer: ObservedTransfer): void {
  publish("tensorwire:transfer:start", () => ({ transfer }));
}

export function end(transfer: ObservedTransfer, error?: Error): void {
  publish("tensorwire:transfer:end", () => ({
    transfer,
    role: transfer.role,
    error: error as never,
    summary: error ? undefined : ({} as TransferSummary),
    seconds: 1,
    loans: 0,
  }));
}

/** What a page is told, one after the other. */
export async function* told(url: string, headers: Record<string, string> = {}): AsyncGenerator<Snapshot> {
  const response = await fetch(new URL("events", url), { headers });
  if (!response.ok) throw new Error(`status ${response.status}`);
  let text = "";
  for await (const portion of response.body!.pipeThrough(new TextDecoderStream() as never)) {
    text += portion;
    for (let at = text.indexOf("\n\n"); at >= 0; at = text.indexOf("\n\n")) {
      if (text.startsWith("data: ")) yield JSON.parse(text.slice("data: ".length, at)) as Snapshot;
      text = text.slice(at + 2);
    }
  }
}
