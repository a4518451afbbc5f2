import type { Hold, ShareOwner } from "./share.js";

/** A transfer's hold of a budget that is part of another one: a step that it has of one of them alone is not there yet. */
export class PartHold implements Hold {
  #part: Hold | undefined;
  #whole: Hold | undefined;
  readonly ofPart: ShareOwner;
  readonly ofWhole: ShareOwner;

  constructor(owner: ShareOwner) {
    const reclaim = (): void => owner.reclaim?.();
    // The part is asked first, and gives one step ahead; the whole follows.
    this.ofPart = asked(
      owner,
      () => this.#whole !== undefined && this.#ahead === 0,
      () => this.#whole?.ask(),
      reclaim,
    );
    this.ofWhole = asked(
      owner,
      () => this.#ahead > 0,
      () => {
        owner.grown();
        this.#part?.ask();
      },
      reclaim,
    );
  }

  /** It has the least of both. */
  begin(part: Hold, whole: Hold): void {
    this.#part = part;
    this.#whole = whole;
    part.ask();
  }

  get #ahead(): number {
    return (this.#part?.steps ?? 0) - (this.#whole?.steps ?? 0);
  }

  get steps(): number {
    return Math.min(this.#part!.steps, this.#whole!.steps);
  }

  get bytes(): number {
    return this.#whole!.bytes;
  }

  get pressed(): boolean {
    return this.#part!.pressed || this.#whole!.pressed;
  }

  ask(): void {
    this.#part!.ask();
    this.#whole!.ask();
  }

  settle(free: number): void {
    const { steps } = this;
    this.#part!.settle(free + this.#ahead);
    this.#whole!.settle(free);
    this.shrink(Math.min(steps, this.steps));
  }

  shrink(steps: number): void {
    // The whole follows the part: what came free there first would be taken again.
    this.#part!.shrink(steps);
    this.#whole!.shrink(steps);
  }

  rest(): void {
    this.#whole!.rest();
    this.#part!.rest();
  }

  wake(): void {
    this.#whole!.wake();
    this.#part!.wake();
  }

  close(): void {
    this.#whole!.close();
    this.#part!.close();
  }
}

function asked(owner: ShareOwner, next: () => boolean, grown: () => void, reclaim: () => void): ShareOwner {
  return {
    get wants() {
      return next() && owner.wants;
    },
    get idle() {
      return owner.idle;
    },
    grown,
    reclaim,
  };
}
