import type { ProgressEvent } from "../session/progress.js";
import { formatSeconds, formatSize } from "./sizes.js";

/** Which of a transfer's counters is its position. */
export type PositionCounter =
  /** What the receiver's sink has finished with. */
  | "acknowledged"
  /** What was handed over: all that is known where no peer answers (a pipe, an artifact). */
  | "sent";

/** How far a transfer is. */
export interface Position {
  readonly bytes: number;
  /** 100 only when the transfer is over: the last byte is not yet the receipt. */
  readonly percent: number;
  /** For people: sizes, rate and what is left. */
  readonly words: string;
}

export function positionOf(event: ProgressEvent, counter: PositionCounter): Position {
  const { phase, totalBytes, resumedBytes, bytesPerSecond, seconds } = event;
  const done = phase === "done";
  const bytes = done ? totalBytes : counter === "sent" ? event.sourceBytes : event.acknowledgedBytes;
  const percent = done ? 100 : Math.min(99, totalBytes ? Math.floor((100 * bytes) / totalBytes) : 0);
  const rate = done ? (seconds > 0 ? (totalBytes - resumedBytes) / seconds : 0) : bytesPerSecond;
  const left = rate > 0 && !done ? `, ${formatSeconds((totalBytes - bytes) / rate)} left` : "";
  const words = `${formatSize(bytes)} of ${formatSize(totalBytes)}, ${formatSize(Math.round(rate))}/s${left}`;
  return { bytes, percent, words };
}
