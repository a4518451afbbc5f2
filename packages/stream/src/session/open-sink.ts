import type { TensorwireError } from "@tensorwire/core";
import type { Sink } from "../sink/sink.js";
import type { Checkpoints } from "./checkpoints.js";
import type { IncomingModel } from "./incoming-model.js";
import type { SinkIntake } from "./sink-intake.js";

/** An open sink, with what goes with it. */
export interface OpenSink {
  readonly sink: Sink;
  readonly model: IncomingModel;
  readonly intake: SinkIntake;
  readonly opening: Promise<void>;
  checkpoints: Checkpoints | undefined;
  /** The token of the state that all it holds is of. None where that is not known, or where it holds a mix until END. */
  version: string | undefined;
}

/** There will be no more for it: it keeps what a later call can go on from, or takes back what it wrote. */
export async function closeSink(
  { sink, intake, opening, checkpoints }: OpenSink,
  error: TensorwireError,
): Promise<void> {
  await opening.catch(() => {});
  // What a journal is to have noted is written first; elsewhere it is for the sink to end what waits in it.
  if (checkpoints) await intake.drain();
  await checkpoints?.stop();
  // The caller's sink may break its word; the first cause stays.
  await Promise.resolve()
    .then(() => sink.abort(error))
    .catch(() => {});
  await intake.drain();
}
