import { writeSync } from "node:fs";
import { readProcStatus } from "../memory/proc-status.js";

/** What a program that is measured says of itself at its end, on descriptor 3, as a line of JSON. */
export interface EndReport {
  /** Resident with everything imported, before its work (VmRSS). */
  readonly baseBytes: number;
  /** The kernel's high-water mark (VmHWM), when all is done. */
  readonly peakBytes: number;
  /** The largest tensor that its caller held for itself, where tensors are its caller's. */
  readonly callerBytes?: number;
  /** Bytes that went over the channel, of a transfer of ours. */
  readonly wireBytes?: number;
  readonly digest?: string;
}

export type EndMessage = { readonly address: string } | { readonly report: EndReport };

const say = (message: EndMessage): void => void writeSync(3, `${JSON.stringify(message)}\n`);

const baseBytes = readProcStatus(process.pid)!.rssBytes;

/** Where this end can be reached. */
export const sayAddress = (address: string): void => say({ address });

/** Call it last. */
export function sayDone(more: Omit<EndReport, "baseBytes" | "peakBytes"> = {}): void {
  say({ report: { baseBytes, peakBytes: readProcStatus(process.pid)!.peakBytes, ...more } });
}
