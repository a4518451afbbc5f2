import { accuracySpec } from "../../accuracy/plot.js";
import { accuracyTable } from "../../accuracy/table.js";
import { barChart } from "../bar-chart.js";
import { codecLabel } from "../codec-label.js";
import { table } from "../markdown.js";
import type { Plot, RenderedSection } from "../section.js";
import { INK } from "../theme.js";
import { type FidelityData, recalled } from "./data.js";

export function renderFidelity(data: FidelityData): RenderedSection {
  const { model, codecs, federated } = data;
  const head = ["", "bits an element", "max. error", "mean error", "relative L2", "cosine", "SNR, dB"];
  const rows = codecs.map(({ codec, bits, maxAbs, meanAbs, relativeL2, cosine, snrDb }) => [
    `\`${codecLabel(codec)}\``,
    bits.toFixed(3),
    ...(snrDb === null
      ? ["0", "0", "0", "1", "exact"]
      : [
          maxAbs.toPrecision(3),
          meanAbs.toPrecision(3),
          relativeL2.toFixed(5),
          cosine.toFixed(6),
          snrDb.toFixed(1),
        ]),
  ]);
  const { rounds, seeds } = federated;
  const seeded =
    seeds.length === 1 ? "one seed: differences of some tenths are chance" : `${seeds.length} seeds`;
  const markdown = [
    `Every codec on a model that was trained, ${model.name}: ${model.tensors} tensors, ${model.elements.toLocaleString("en")} elements, as a` +
      " transfer would carry it: tensors under 4096 elements and integers exactly. Errors are of the float tensors that the codec carries; a" +
      " signal-to-noise ratio of 20 dB is an error of a tenth of the weights' norm, and each bit should be worth 6 dB.",
    table(head, rows),
    "![](fidelity)",
    "### Federated training",
    `Federations of three clients that learn handwritten digits for ${rounds} rounds and differ in nothing but how models travel; ${seeded}.` +
      " [The guide](guides/federated.md#what-four-bits-cost) has three seeds, and what else was tried.",
    "![](fidelity-federated)",
    accuracyTable(recalled(federated.outcomes)),
  ];
  return { markdown: markdown.join("\n\n"), plots: [errorPlot(data), curves(data)] };
}

function errorPlot({ codecs, model }: FidelityData): Plot {
  const bars = codecs.flatMap(({ codec, bits, snrDb }) =>
    snrDb === null
      ? []
      : [
          {
            label: codecLabel(codec),
            value: snrDb,
            text: `${snrDb.toFixed(1)} dB at ${bits.toFixed(2)} bits`,
            colour: INK.blue,
          },
        ],
  );
  return {
    name: "fidelity",
    alt: "Signal-to-noise ratio of every lossy codec on a trained model, and its bits an element",
    spec: barChart({
      title: "Signal-to-noise ratio of the weights, by codec",
      subtitle: `${model.name}; none and lossless are exact`,
      axis: "dB",
      bars: bars.sort((a, b) => b.value - a.value),
    }),
  };
}

const curves = ({ federated }: FidelityData): Plot => ({
  name: "fidelity-federated",
  alt: "Accuracy after each round of federations whose models travel by different codecs",
  spec: accuracySpec(federated.outcomes),
});
