import { deferred } from "../session/deferred.js";
import type { MemoryBudget, Party, Reserve } from "./memory-budget.js";
import type { Hold, ShareOwner, ShareTerms } from "./share.js";

/**
 * The caller's budget, for a transfer whose two ends are in this process: both have their minimum, or neither. One that had
 * only the receiver's would hold it for ever where others have done the same, and nothing is left for any sender.
 */
export class CommonBudget implements Reserve {
  readonly #parties: (Party & { readonly signal: AbortSignal })[] = [];
  readonly #shares = deferred<readonly Hold[]>();

  constructor(private readonly budget: MemoryBudget) {}

  /** Once for each end: waits until both have asked. @throws TensorwireError as `MemoryBudget.open`. */
  async open(terms: ShareTerms, owner: ShareOwner, signal: AbortSignal): Promise<Hold> {
    signal.throwIfAborted();
    const at = this.#parties.push({ terms, owner, signal }) - 1;
    if (this.#parties.length === 2) this.#open();
    const aborted = (): void => this.#shares.reject(signal.reason);
    signal.addEventListener("abort", aborted, { once: true });
    try {
      const share = (await this.#shares.promise)[at]!;
      if (signal.aborted) share.close();
      signal.throwIfAborted();
      return share;
    } finally {
      signal.removeEventListener("abort", aborted);
    }
  }

  #open(): void {
    const either = AbortSignal.any(this.#parties.map(({ signal }) => signal));
    this.budget.openTogether(this.#parties, either).then((shares) => {
      // An end that gives up in this very moment has rejected: nobody hears of them any more.
      if (either.aborted) for (const share of shares) share.close();
      this.#shares.resolve(shares);
    }, this.#shares.reject);
  }
}
