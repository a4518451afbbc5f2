import { quote, TensorwireError } from "./errors.js";
import { Glob } from "./glob.js";

/** Most patterns of one list, and characters of one pattern: what a stranger's list can make the matching cost. */
export const MAX_PATTERNS = 256;
/** Most characters of one pattern. */
export const MAX_PATTERN_LENGTH = 256;

/** Characters of all patterns that a receiver asks a sender by: HELLO is heard before anybody is let in. */
export const MAX_ASKED_CHARACTERS = 4096;

/**
 * Whether a list can stand in HELLO.
 * @example
 * console.log(isAskable(["*.lora_A.*", "*.lora_B.*"])); // true
 */
export function isAskable(patterns: readonly string[]): boolean {
  return patterns.reduce((sum, { length }) => sum + length, 0) <= MAX_ASKED_CHARACTERS;
}

/**
 * A list of patterns over tensors' names, as of `Glob`: a name is chosen where one of them matches.
 * @example
 * console.log(new NamePatterns(["*.lora_A.*"]).matches("layer.0.lora_A.weight")); // true
 */
export class NamePatterns {
  readonly #patterns: readonly string[];
  readonly #globs: readonly Glob[];

  /** @throws TensorwireError `INVALID_ARGUMENT` for what is no such list. */
  constructor(patterns: readonly string[]) {
    if (!Array.isArray(patterns) || patterns.length < 1 || patterns.length > MAX_PATTERNS) {
      throw invalid(`patterns are a list of 1 to ${MAX_PATTERNS} strings`);
    }
    for (const pattern of patterns) {
      if (typeof pattern === "string" && pattern.length <= MAX_PATTERN_LENGTH) continue;
      throw invalid(`a pattern is a string of at most ${MAX_PATTERN_LENGTH} characters`);
    }
    this.#patterns = patterns;
    this.#globs = patterns.map((pattern) => new Glob(pattern));
  }

  /** Whether one of them matches. */
  matches(name: string): boolean {
    const characters = [...name];
    return this.#globs.some((glob) => glob.matches(characters));
  }

  /**
   * Of each name, whether it is chosen.
   * @param owner For messages: whose names they are.
   * @throws TensorwireError `INVALID_ARGUMENT` for a pattern that matches none of them: a name that is misspelled.
   */
  choose(names: readonly string[], owner: string): boolean[] {
    const used = this.#globs.map(() => false);
    const chosen = names.map((name) => {
      const characters = [...name];
      let any = false;
      this.#globs.forEach((glob, i) => {
        // One that has matched before needs no second name, nor does a name a second pattern.
        if ((any && used[i]) || !glob.matches(characters)) return;
        any = true;
        used[i] = true;
      });
      return any;
    });
    const idle = used.indexOf(false);
    if (idle < 0) return chosen;
    const such = names.length ? `its first is ${quote(names[0]!)}` : "it has none";
    const message = `the pattern ${quote(this.#patterns[idle]!)} matches no tensor of ${quote(owner)}: ${such}`;
    throw invalid(message);
  }
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
