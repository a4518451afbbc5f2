/**
 * A pattern over names: `*` is any run of characters (dots and slashes among them), `?` is one character, and all else
 * is itself. The pattern is never made into a regular expression: matching takes at most pattern × name steps,
 * whatever they hold, and one pass for a pattern with a single `*`.
 * @example
 * console.log(new Glob("model.layers.*.weight").matches("model.layers.0.mlp.weight")); // true
 */
export class Glob {
  readonly #pattern: readonly string[];

  constructor(pattern: string) {
    // Characters, not UTF-16 units, so that `?` is one of what a reader sees. A second `*` in a row adds nothing.
    this.#pattern = [...pattern.replace(/\*+/g, "*")];
  }

  /** Whether a name is one of those. @param name A name, or its characters, where many patterns are matched with it. */
  matches(name: string | readonly string[]): boolean {
    const pattern = this.#pattern;
    const text = typeof name === "string" ? [...name] : name;
    let p = 0;
    let t = 0;
    // Where to go on after a mismatch: behind the last star, which then takes one character more. Earlier stars need
    // not be tried again: they took the fewest characters that would do.
    let star = -1;
    let taken = 0;
    while (t < text.length) {
      if (pattern[p] === "*") {
        star = p++;
        taken = t;
      } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
        p++;
        t++;
      } else if (star >= 0) {
        p = star + 1;
        t = ++taken;
      } else {
        return false;
      }
    }
    while (pattern[p] === "*") p++;
    return p === pattern.length;
  }
}
