import type { CodecSpec } from "@tensorwire/stream";
import { EXACT, JUDGED, labelOf } from "../../accuracy/arrangement.js";
import type { Outcome } from "../../accuracy/trials.js";

/** How far a codec takes a model from what it was. */
export interface CodecFidelity {
  readonly codec: CodecSpec;
  readonly bits: number;
  readonly maxAbs: number;
  readonly meanAbs: number;
  readonly relativeL2: number;
  readonly cosine: number;
  /** None where nothing differs: JSON has no infinity. */
  readonly snrDb: number | null;
}

export interface FidelityData {
  readonly model: { readonly name: string; readonly tensors: number; readonly elements: number };
  readonly codecs: readonly CodecFidelity[];
  readonly federated: {
    readonly rounds: number;
    readonly seeds: readonly number[];
    readonly outcomes: readonly Outcome[];
  };
}

/** With the arrangements themselves, where they were read from a file: what judges them knows them by identity. */
export function recalled(outcomes: readonly Outcome[]): Outcome[] {
  return outcomes.map((outcome) => {
    const label = labelOf(outcome.arrangement);
    const arrangement = [EXACT, ...JUDGED].find((each) => labelOf(each) === label) ?? outcome.arrangement;
    return { ...outcome, arrangement };
  });
}
