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
  /** When the transfer itself began and was done at this end, in seconds of the clock that processes share. */
  readonly beganAt?: number;
  readonly endedAt?: number;
  /** Of what the program is made of, where that is not ours. */
  readonly versions?: Readonly<Record<string, string>>;
  /** Bytes that went over the channel, of a transfer of ours. */
  readonly wireBytes?: number;
  readonly digest?: string;
}

export type EndMessage = { readonly address: string } | { readonly report: EndReport };

const say = (message: EndMessage): void => void writeSync(3, `${JSON.stringify(message)}\n`);

const baseBytes = readProcStatus(process.pid)!.rssBytes;

/** Where this end can be reached. */
export const sayAddress = (address: string): void => say({ address });

/** On the system's monotonic clock, which other programs can read as well. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e9;

/** Call it last. A base that is given is what the process weighed with its caller's model. */
export function sayDone(
  more: Omit<EndReport, "baseBytes" | "peakBytes"> & { baseBytes?: number } = {},
): void {
  say({ report: { baseBytes, peakBytes: readProcStatus(process.pid)!.peakBytes, ...more } });
}
