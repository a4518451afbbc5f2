import { channel } from "node:diagnostics_channel";
import type { TensorwireError } from "@tensorwire/core";

/** Published on the diagnostics channel `tensorwire:transfer:end` when one end of a transfer is over. */
export interface TransferEndMessage {
  readonly role: "send" | "receive";
  readonly error: TensorwireError | undefined;
  /** Pooled buffers that were not given back: anything but 0 is a defect. */
  readonly loans: number;
}

const transferEnd = channel("tensorwire:transfer:end");

export function publishEnd(message: TransferEndMessage): void {
  if (transferEnd.hasSubscribers) transferEnd.publish(message);
}
