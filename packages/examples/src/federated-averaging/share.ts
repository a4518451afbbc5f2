import { Chance } from "./chance.js";
import { type Digits, LABELS, pick } from "./digits.js";

/** Which part of the digits a client has. */
export interface Share {
  /** From 1 on. */
  readonly number: number;
  readonly of: number;
}

/**
 * What one of several clients has: they share each label's digits unevenly (by a Dirichlet distribution with α = 1), so
 * that some have many digits and some few, and hardly any has all ten alike. Each client can tell its share by itself.
 */
export function digitsOf({ number, of }: Share, digits: Digits, seed: number): Digits {
  const chance = new Chance(seed, "shares");
  const places: number[] = [];
  for (let label = 0; label < LABELS; label++) {
    const all = [...digits.labels.keys()].filter((place) => digits.labels[place] === label);
    const weights = Array.from({ length: of }, () => -Math.log(1 - chance.fraction()));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const upTo = (clients: number): number =>
      Math.round((all.length * weights.slice(0, clients).reduce((sum, weight) => sum + weight, 0)) / total);
    places.push(...all.slice(upTo(number - 1), upTo(number)));
  }
  return pick(digits, places);
}
