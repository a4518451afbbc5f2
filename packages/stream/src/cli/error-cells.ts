import type { ErrorFigures } from "@tensorwire/core";

/** Headings of `errorCells`. */
export const ERROR_HEADINGS = ["max abs", "mean abs", "rel. L2", "cosine", "SNR"] as const;

/** How far something came from its original, for people. */
export function errorCells({ differing, nonFinite, ...figures }: ErrorFigures): string[] {
  if (differing === 0) return ["same", "", "", "", ""];
  // Of values that are not finite no figure says anything: where they are all that differs, perfect ones would mislead.
  if (figures.maxAbs === 0) return [`${differing} NaN or infinite differ`, "", "", "", ""];
  const { maxAbs, meanAbs, relativeL2, cosine, snrDb } = figures;
  return [
    maxAbs.toPrecision(3),
    meanAbs.toPrecision(3),
    relativeL2.toPrecision(3),
    cosine.toFixed(6),
    `${snrDb.toFixed(1)} dB${nonFinite ? " (of finite values)" : ""}`,
  ];
}
