import { formatMiB } from "../../model/byte-size.js";
import { barChart } from "../bar-chart.js";
import { codecLabel } from "../codec-label.js";
import { table } from "../markdown.js";
import type { Plot, RenderedSection } from "../section.js";
import { INK } from "../theme.js";
import type { SizesData, SizesOf } from "./data.js";
import { PUBLISHED_SIZES } from "./published.js";
import { inMiB, withCodebook } from "./verdicts.js";

export function renderSizes(data: SizesData): RenderedSection {
  const { tensors, elements, checked, trained } = data;
  const plots = data.sources.map((source) => plotOf(source, data));
  const wrong = checked.wrong.length ? ` **Other bytes came out of ${checked.wrong.join(", ")}.**` : "";
  const markdown = [
    `Llama-3.2-1B with its output head stored: ${tensors} tensors, ${elements.toLocaleString("en")} parameters. MiB of codes and of scales as the` +
      " chunk plan and the codecs' own arithmetic give them, every tensor encoded, norms too, beside what NVFlare publishes. Its" +
      " figures of 8 and 4 bits have the codebook in them, which travels with each tensor there; ours are never sent, and are added in the last" +
      ` column. ${checked.tensors} of the tensors, ${formatMiB(checked.bytes)}, were really encoded with ${checked.codecs} codecs, and compared with the arithmetic.${wrong}`,
    publishedTable(data),
    "### Every codec",
    '*Codes* and *scales* are of the same shapes. What `lossless`, `adaquant` and `compress: "auto"` make depends on the values: *bits an' +
      ` element* are measured on a model that was trained, ${trained.name} of the demo (${trained.elements.toLocaleString("en")} weights, as it` +
      " is and cast to BF16), every tensor encoded; *packed, MiB* is what Llama-3.2-1B would take at those bits, **scaled up, not measured**:" +
      " another model's weights pack otherwise.",
    ...data.sources.flatMap((source) => [
      `#### From ${source.dtype}`,
      sourceTable(source, data),
      `![](sizes-${source.dtype.toLowerCase()})`,
    ]),
  ];
  return { markdown: markdown.join("\n\n"), plots };
}

function publishedTable({ table: found, tensors }: SizesData): string {
  const rows = PUBLISHED_SIZES.flatMap((row) =>
    row.codecs.map(({ name }) => {
      const ours = found.find(({ codec }) => codec.name === name)!;
      const [codes, scales, meta] = [ours.codes, ours.scales, withCodebook(ours, row, tensors)].map(inMiB);
      return [`${row.precision}, \`${name}\``, row.payload, row.meta, codes!, scales!, meta!];
    }),
  );
  const head = ["", "NVFlare's payload", "its meta", "our codes", "our scales", "with codebooks"];
  return table(head, rows);
}

/** What the shapes would take at so many bits an element. */
const atBits = (bits: number, { elements }: SizesData): number => (bits * elements) / 8;

interface Row {
  readonly label: string;
  readonly codes: number | undefined;
  readonly scales: number | undefined;
  readonly bits: number;
  readonly packedBits: number;
}

function rowsOf({ planned, real }: SizesOf): Row[] {
  const labels = planned.map(({ codec }) => codecLabel(codec));
  return real.map(({ codec, bits, packedBits }) => {
    const label = codecLabel(codec);
    const plain = planned[labels.indexOf(label)];
    return { label, codes: plain?.codes, scales: plain?.scales, bits, packedBits };
  });
}

function sourceTable(source: SizesOf, data: SizesData): string {
  const head = ["", "codes, MiB", "scales, MiB", "of the source", "bits an element", "packed", "packed, MiB"];
  const whole = atBits(bitsOf(source), data);
  const rows = rowsOf(source).map(({ label, codes, scales, bits, packedBits }) => {
    const size = codes === undefined ? atBits(bits, data) : codes + scales!;
    return [
      `\`${label}\``,
      codes === undefined ? "–" : inMiB(codes),
      scales === undefined ? "–" : inMiB(scales),
      `${((100 * size) / whole).toFixed(2)} %`,
      bits.toFixed(3),
      packedBits.toFixed(3),
      inMiB(atBits(packedBits, data)),
    ];
  });
  return table(head, rows);
}

const bitsOf = ({ dtype }: SizesOf): number => (dtype === "F32" ? 32 : 16);

function plotOf(source: SizesOf, data: SizesData): Plot {
  const bars = rowsOf(source).map(({ label, codes, scales, bits, packedBits }) => {
    const plain = codes === undefined ? atBits(bits, data) : codes + scales!;
    // An estimate: packing that of another model's values.
    const value = Math.min(plain, atBits(packedBits, data)) / 2 ** 20;
    const colour = label === "none" || label === "lossless" ? INK.green : INK.blue;
    return {
      label,
      value,
      text: `${value.toFixed(0)} MiB, unpacked ${(plain / 2 ** 20).toFixed(0)}`,
      colour,
    };
  });
  return {
    name: `sizes-${source.dtype.toLowerCase()}`,
    alt: `MiB of Llama-3.2-1B from ${source.dtype} by codec, packed at the rate of a trained model`,
    spec: barChart({
      title: `Llama-3.2-1B from ${source.dtype}, by codec, with compress: "auto"`,
      subtitle: "at the bits that a trained model's values take; exact codecs green, others blue",
      axis: "MiB",
      bars,
    }),
  };
}
