/** Counts by name, in the order in which the names came. */
export class Counts {
  readonly #counts = new Map<string, number>();

  add(name: string, more = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + more);
  }

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  merge(other: readonly (readonly [string, number])[]): void {
    for (const [name, count] of other) this.add(name, count);
  }

  /** The most frequent first. */
  rows(): [string, number][] {
    return [...this.#counts].sort((a, b) => b[1] - a[1]);
  }
}
