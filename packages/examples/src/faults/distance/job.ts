import type { Distance } from "./long-wire.js";

/** 100 ms there and back, one packet in a hundred lost. */
export const FAR: Distance = { delayMs: 50, bytesPerSecond: 8e6, lossOneIn: 100 };

export const FAR_CHANNELS = ["ws", "http", "tcp"] as const;
export type FarChannel = (typeof FAR_CHANNELS)[number];

export interface DistanceTask {
  readonly channels: readonly FarChannel[];
  readonly seed: number;
  readonly rounds: number;
  readonly bytes: number;
  readonly scratch: string;
  /** Who makes the line long: the kernel, or a proxy. */
  readonly line: "kernel" | "proxy";
}

/** What one round took. */
export interface Seconds {
  readonly bare: number;
  readonly channels: Partial<Record<FarChannel, number>>;
}
