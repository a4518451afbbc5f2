import type { CreditLedger } from "../session/credit.js";
import type { Reserve } from "./memory-budget.js";
import type { ReceiverMemory } from "./receiver-memory.js";
import type { Hold, ShareOwner } from "./share.js";

/**
 * A receiver's share of the budget: how much of its window it may grant. Credit cannot be taken back, so it is granted when
 * the memory for it is reserved, and what comes free goes to others where they need it more, before it is granted anew.
 */
export class WindowShare implements ShareOwner {
  readonly wants = true;
  #share: Hold | undefined;

  /**
   * @param braked Of a channel without a way back: whether its peer waits, having used all the room that there is.
   * @param more There is more room than before.
   */
  constructor(
    private readonly memory: ReceiverMemory,
    private readonly ledger: CreditLedger,
    private readonly braked: (() => boolean) | undefined,
    private readonly more: () => void,
  ) {}

  /** Before anything is granted. @throws TensorwireError as `MemoryBudget.open`. */
  async open(budget: Reserve, signal: AbortSignal): Promise<void> {
    this.#share = await budget.open(this.memory, this, signal);
    this.#adjust(this.#share);
  }

  /** Whether the peer has a step of credit that it has not used, or none yet. */
  get idle(): boolean {
    const { ledger, memory, braked } = this;
    // Not by the room that is left: that changes with every step, and a step given back would be taken again, for ever.
    if (braked) return !braked();
    return ledger.announced === 0 || ledger.announced - ledger.arrived >= memory.stepBytes;
  }

  grown(): void {
    if (!this.#share) return;
    this.#adjust(this.#share);
    this.more();
  }

  /** The peer has used some of its credit. */
  used(): void {
    this.#share?.ask();
  }

  /**
   * A chunk is finished with: what it took can go to others.
   * @returns whether to grant what came free; else it is saved until it makes a step, which somebody else needs more.
   */
  settle(): boolean {
    const { ledger, memory, braked } = this;
    const share = this.#share;
    if (!share || share.steps < 2) return true;
    const { steps } = share;
    const free = braked ? ledger.room - ledger.held : ledger.limit - ledger.announced;
    share.settle(Math.floor(free / memory.stepBytes));
    if (share.steps !== steps) this.#adjust(share);
    return share.steps < 2 || !share.pressed;
  }

  #adjust({ steps }: Hold): void {
    this.memory.keep(steps);
    this.ledger.room = this.memory.window(steps);
  }

  /** Nothing comes any more. What the sink still has in its hands is given back when it is done with it. */
  close(): void {
    this.memory.keep(0);
    this.#share?.close();
  }
}
