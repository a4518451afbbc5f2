import { availableParallelism } from "node:os";
import { evaluateModel } from "@tensorwire/stream";
import { EXACT, JUDGED } from "../../accuracy/arrangement.js";
import { runTrials } from "../../accuracy/trials.js";
import { demoModel, MODEL } from "../../demo/model.js";
import type { BenchmarkContext, Section } from "../section.js";
import type { CodecFidelity, FidelityData } from "./data.js";
import { renderFidelity } from "./page.js";
import { fidelityVerdicts } from "./verdicts.js";

export const fidelity: Section<FidelityData> = {
  id: "fidelity",
  title: "Fidelity",
  async measure(context) {
    const model = demoModel();
    const { tensors, elements, codecs } = await evaluateModel(model.path);
    return {
      model: { name: MODEL, tensors, elements },
      codecs: codecs.map(({ codec, bitsPerWeight, error }): CodecFidelity => {
        const { maxAbs, meanAbs, relativeL2, cosine, snrDb } = error;
        const finite = Number.isFinite(snrDb) ? snrDb : null;
        return { codec, bits: bitsPerWeight, maxAbs, meanAbs, relativeL2, cosine, snrDb: finite };
      }),
      federated: await federated(context),
    };
  },
  render: renderFidelity,
  verdicts: fidelityVerdicts,
};

/** One seed: `npm run bench:accuracy` takes three, and as long for each. */
const SEEDS = [1];

async function federated({ quick, log }: BenchmarkContext): Promise<FidelityData["federated"]> {
  const rounds = quick ? 2 : 8;
  const judged = quick ? JUDGED.filter(({ codec }) => codec === "normfloat4") : JUDGED;
  const arrangements = [EXACT, ...judged];
  log(`${arrangements.length} federations of ${rounds} rounds`);
  const jobs = Math.min(4, availableParallelism());
  return { rounds, seeds: SEEDS, outcomes: await runTrials(arrangements, { rounds, seeds: SEEDS, jobs }) };
}
