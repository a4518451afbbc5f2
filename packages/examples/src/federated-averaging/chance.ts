import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** What chance decides: the same words, the same draws, on every machine. */
export class Chance {
  readonly #generator;

  /** @param of What it is for, so that no two decisions hang together: a seed, a purpose, a round. */
  constructor(...of: readonly (string | number)[]) {
    let hash = 0x811c9dc5;
    for (const character of of.join(" ")) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
    this.#generator = xoroshiro128plus(hash);
  }

  /** From 0 up to, and without, 1. */
  fraction(): number {
    return uniformFloat64(this.#generator);
  }

  /** For generators of others. */
  seed(): number {
    return uniformInt(this.#generator, 0, 0x7fffffff);
  }

  /** The numbers from 0 up to, and without, `count`, in any order. */
  shuffled(count: number): number[] {
    const places = Array.from({ length: count }, (_, place) => place);
    for (let i = count - 1; i > 0; i--) {
      const other = uniformInt(this.#generator, 0, i);
      [places[i], places[other]] = [places[other]!, places[i]!];
    }
    return places;
  }
}
