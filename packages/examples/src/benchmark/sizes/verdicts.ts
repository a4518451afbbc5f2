import type { Verdict } from "../section.js";
import type { SizesData } from "./data.js";
import type { EncodedSize } from "./planned.js";
import { PUBLISHED_SIZES, type PublishedSize } from "./published.js";

/** As NVFlare's table gives them. */
export const inMiB = (bytes: number): string => (bytes / 2 ** 20).toFixed(2);

const F32_BYTES = 4;

/** Our scales, and what NVFlare sends besides: the codebook, once a tensor. Ours knows it and sends none. */
export const withCodebook = ({ scales }: EncodedSize, { codebook }: PublishedSize, tensors: number): number =>
  scales + tensors * codebook * F32_BYTES;

/** Rows of the published table that come out otherwise. */
export function unlike({ table, tensors }: SizesData): string[] {
  return PUBLISHED_SIZES.flatMap((row) =>
    row.codecs.flatMap(({ name }) => {
      const found = table.find(({ codec }) => codec.name === name);
      const meta = found && inMiB(withCodebook(found, row, tensors));
      return found && inMiB(found.codes) === row.payload && meta === row.meta ? [] : [name];
    }),
  );
}

export function sizesVerdicts(data: SizesData): Verdict[] {
  const others = unlike(data);
  const { checked } = data;
  return [
    {
      what: "sizes of NVFlare's published table, payload and scales with its codebooks",
      bar: "the same, to its two decimals",
      found: others.length ? `another: ${others.join(", ")}` : "the same, all rows",
      pass: others.length === 0,
    },
    {
      what: "what encoding makes of a part of those shapes, beside the arithmetic",
      bar: "the same bytes",
      found: checked.wrong.length
        ? `another: ${checked.wrong.join(", ")}`
        : `the same, ${checked.codecs} codecs`,
      pass: checked.wrong.length === 0,
    },
  ];
}
