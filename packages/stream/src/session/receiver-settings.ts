import type { CodecBackend, CodecRegistry, Limits } from "@tensorwire/core";
import type { Reserve } from "../budget/memory-budget.js";
import type { TransferTrace } from "../diagnostics/transfer-trace.js";
import type { IntegrityDemands } from "./expected-digest.js";
import type { Progress } from "./progress.js";
import type { Reception } from "./reception.js";
import type { TransferLife } from "./transfer.js";

/** What one attempt at receiving a model is made of. */
export interface ReceiverSettings extends Pick<IntegrityDemands, "expectedDigest"> {
  readonly reception: Reception;
  readonly windowBytes: number;
  readonly limits: Limits;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly budget: Reserve | undefined;
  readonly progress: Progress;
  /** Of this attempt. */
  readonly life: TransferLife;
  readonly trace: TransferTrace;
  /** How long the peer may do nothing for it. 0: for ever. */
  readonly stallTimeoutMs: number;
  /** The sender is in this process. */
  readonly near: boolean;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}
