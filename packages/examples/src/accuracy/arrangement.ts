import type { Base, Updates } from "../federated-averaging/agreement.js";

/** How models travel in one federation: the same both ways. */
export interface Arrangement {
  readonly codec: string;
  /** Whether clients carry what the codec leaves out of an update to the next. */
  readonly feedback: boolean;
  readonly updates: Updates;
  readonly base: Base;
}

const WITH = { feedback: false, updates: "delta", base: "own" } as const;

export const EXACT: Arrangement = { codec: "none", ...WITH };

/** They have to come as far as the exact one does. */
export const JUDGED: readonly Arrangement[] = ["float16", "blockwise8", "normfloat4"].flatMap((codec) =>
  [false, true].map((feedback): Arrangement => ({ ...WITH, codec, feedback })),
);

/** What the example does otherwise, and why. */
export const COMPARED: readonly Arrangement[] = [
  { ...WITH, codec: "normfloat4", base: "published" },
  { ...WITH, codec: "normfloat4", updates: "model" },
];

export function labelOf({ codec, feedback, updates, base }: Arrangement): string {
  const way = updates === "model" ? ", whole models" : base === "published" ? ", to the published model" : "";
  return `${codec}${feedback ? ", error feedback" : ""}${way}`;
}
