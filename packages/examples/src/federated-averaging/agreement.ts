/** What server and clients agree on. The names end a URL of the server, and rights are given for them. */

/** The model of the last round that is complete; the first one before there was any. */
export const MODEL = "model";

export const roundName = (round: number): string => `round-${round}`;

export const updateName = (round: number, client: string): string => `${roundName(round)}/${client}`;

/** What clients send: by how much the model has changed, or the model. */
export type Updates = "delta" | "model";

/**
 * What the server adds deltas to: the model that it has, or the one that clients got. What the codec left out of that
 * is kept for later rounds in the first case, and lost in the second.
 */
export type Base = "own" | "published";

/** Biases travel exactly, all three layers quantized: the last has 640 weights, fewer than are by default. */
export const MIN_ELEMENTS = 512;

/** Where in the federation a model is: it travels in its metadata. */
export interface Position {
  /** How many rounds have made it. */
  readonly round: number;
  readonly rounds: number;
}

export const metadataOf = ({ round, rounds }: Position): ReadonlyMap<string, string> =>
  new Map([
    ["round", String(round)],
    ["rounds", String(rounds)],
  ]);

export const positionIn = (metadata: ReadonlyMap<string, string>): Position => ({
  round: Number(metadata.get("round")),
  rounds: Number(metadata.get("rounds")),
});
